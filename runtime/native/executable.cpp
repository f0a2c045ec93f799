#include "executable.h"

#include <Python.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>

#include "threads.h"

namespace jtc {

Settings settings;

namespace {

// A thread is worth waking for this much work.
constexpr int64_t thread_ns = 10'000;
// A thread takes its part of a launch in chunks of a half, a quarter, an eighth and an eighth: large ones first, so
// that what is packed for one is used for long, small ones last, to even out threads of unequal speed.
constexpr int64_t chunks_per_thread = 4;

struct Chunk {
    const Schedule::Launch* launch;
    int64_t begin, end;
};

struct Wave {
    const std::vector<Chunk>* chunks;
    void* const* pointers;
    size_t workspace;
};

void run_chunk(void* context, int64_t number) {
    const Wave& wave = *static_cast<const Wave*>(context);
    const Chunk& chunk = (*wave.chunks)[size_t(number)];
    chunk.launch->entry(wave.pointers + chunk.launch->slot, workspace(wave.workspace), chunk.begin, chunk.end);
}

// Gives the GIL back for the lifetime of the object, if this thread holds it.
class WithoutGil {
public:
    explicit WithoutGil(bool wanted) : state_(wanted && PyGILState_Check() ? PyEval_SaveThread() : nullptr) {}
    ~WithoutGil() {
        if (state_) PyEval_RestoreThread(state_);
    }

private:
    PyThreadState* state_;
};

// With one processor a second thread brings nothing but the time to switch to it.
bool several_processors() {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) > 1;
}

Buffer copy(const Buffer& source) {
    Buffer result{source.type, allocate(source.type->bytes)};
    std::memcpy(result.data(), source.data(), source.type->bytes);
    return result;
}

}  // namespace

Schedule::Schedule(const std::vector<LaunchSpec>& specs, const std::vector<BufferSpec>& buffers) {
    size_t slot = 0;
    int wave = -1;
    for (size_t number = 0; number < specs.size(); number++) {
        const LaunchSpec& spec = specs[number];
        if (spec.units <= 0) continue;
        if (waves.empty() || spec.wave != wave) waves.push_back({launches.size(), launches.size(), 0});
        wave = spec.wave;
        launches.push_back({spec.entry, slot, number, spec.units, std::max<int64_t>(spec.nanoseconds, 1)});
        waves.back().end++;
        waves.back().nanoseconds += launches.back().nanoseconds;
        nanoseconds += launches.back().nanoseconds;
        workspace = std::max(workspace, spec.workspace);
        for (size_t i = 0; i < spec.operands.size(); i++) {
            const BufferSpec& buffer = buffers.at(size_t(spec.operands[i]));
            operands.push_back({slot++, buffer.kind, buffer.place, spec.offsets.empty() ? 0 : spec.offsets.at(i)});
        }
    }
}

void Schedule::run(void* const* pointers) const {
    std::optional<ThreadPool::Attention> attention;
    if (waves.size() > 1 && nanoseconds >= 2 * thread_ns) attention.emplace(ThreadPool::instance());
    for (const Wave& wave : waves) run(wave, pointers);
}

void Schedule::profile(void* const* pointers, std::vector<int64_t>& times) const {
    for (size_t i = 0; i < launches.size(); i++) {
        const auto start = std::chrono::steady_clock::now();
        run(Wave{i, i + 1, launches[i].nanoseconds}, pointers);
        times[launches[i].number] += std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count();
    }
}

void Schedule::run(const Wave& wave, void* const* pointers) const {
    ThreadPool& pool = ThreadPool::instance();
    const int64_t useful = std::min(int64_t(pool.threads()), wave.nanoseconds / thread_ns);
    if (useful <= 1) {
        for (size_t i = wave.begin; i < wave.end; i++) {
            const Launch& launch = launches[i];
            launch.entry(pointers + launch.slot, jtc::workspace(workspace), 0, launch.units);
        }
        return;
    }
    thread_local std::vector<Chunk> chunks;
    chunks.clear();
    for (size_t i = wave.begin; i < wave.end; i++) {
        const Launch& launch = launches[i];
        // Threads in proportion to its share of the wave, rounded up.
        int64_t share = std::min(useful, launch.nanoseconds * useful / wave.nanoseconds + 1);
        if (wave.end - wave.begin == 1) share = useful;
        share = std::min(share, launch.units);
        for (int64_t k = 0; k < share; k++) {
            int64_t begin = launch.units * k / share;
            const int64_t end = launch.units * (k + 1) / share;
            for (int64_t left = chunks_per_thread; share > 1 && left > 1 && end - begin > 1; left--) {
                const int64_t half = begin + (end - begin + 1) / 2;
                chunks.push_back({&launch, begin, half});
                begin = half;
            }
            chunks.push_back({&launch, begin, end});
        }
    }
    jtc::Wave context{&chunks, pointers, workspace};
    pool.run(run_chunk, &context, int64_t(chunks.size()), int(useful));
}

Executable::Executable(std::string name, std::vector<BufferSpec> buffers, std::vector<int> inputs,
                       std::vector<int> outputs, std::vector<std::string> input_names,
                       std::vector<std::string> output_names, std::vector<int> constants,
                       std::vector<LaunchSpec> prepare, std::vector<LaunchSpec> launches,
                       std::vector<std::pair<size_t, size_t>> updates, size_t arena, size_t prepared, size_t scratch,
                       std::shared_ptr<void> code)
    : name(std::move(name)), buffers(std::move(buffers)), inputs(std::move(inputs)), outputs(std::move(outputs)),
      input_names(std::move(input_names)), output_names(std::move(output_names)), constants(std::move(constants)),
      updates(std::move(updates)), prepare_(prepare, this->buffers), schedule_(launches, this->buffers),
      arena_(arena), prepared_(prepared), scratch_(scratch), launches_(launches.size()), code_(std::move(code)),
      needed_(this->constants.size()) {
    for (const auto& operand : schedule_.operands)
        if (operand.kind == Kind::constant) needed_.at(size_t(operand.place)) = true;
    for (int output : this->outputs)
        if (this->buffers.at(size_t(output)).kind == Kind::constant)
            needed_.at(size_t(this->buffers[size_t(output)].place)) = true;
    if (this->constants.empty()) bind({});
}

void Executable::bind(std::vector<Buffer> values) {
    if (values.size() != constants.size())
        throw InputError(name + " has " + std::to_string(constants.size()) + " constants, got " +
                         std::to_string(values.size()));
    for (size_t i = 0; i < values.size(); i++) {
        const BufferSpec& spec = buffers[size_t(constants[i])];
        if (values[i].type != spec.type)
            throw InputError(name + ": constant " + spec.name + " is " + spec.type->text() + ", got " +
                             values[i].type->text());
    }
    WithoutGil released(true);
    std::lock_guard<std::mutex> lock(bind_mutex_);
    for (const Buffer& value : values)
        if (value.storage->producer) {
            value.storage->producer->wait();
            value.storage->producer->check();
        }
    auto bound = std::make_shared<Bound>();
    bound->prepared = allocate(prepared_);
    StorageRef scratch = allocate(scratch_);
    std::vector<void*> pointers(prepare_.operands.size());
    for (const auto& operand : prepare_.operands) {
        void* base = operand.kind == Kind::constant   ? values[size_t(operand.place)].data()
                     : operand.kind == Kind::prepared ? static_cast<char*>(bound->prepared->data) + operand.place
                                                      : static_cast<char*>(scratch->data) + operand.place;
        pointers[operand.slot] = static_cast<char*>(base) + operand.offset;
    }
    prepare_.run(pointers.data());
    for (size_t i = 0; i < values.size(); i++)
        if (!needed_[i]) values[i].storage.reset();
    bound->constants = std::move(values);
    std::atomic_store(&bound_, std::shared_ptr<const Bound>(std::move(bound)));
}

void Executable::check(const Buffer* const* values, size_t count) const {
    if (count != inputs.size()) {
        std::string names;
        for (const auto& input : input_names) names += (names.empty() ? "" : ", ") + input;
        throw InputError(name + " takes " + std::to_string(inputs.size()) + " inputs (" + names + "), got " +
                         std::to_string(count));
    }
    for (size_t i = 0; i < count; i++) {
        const TensorType* type = buffers[size_t(inputs[i])].type;
        if (values[i]->type != type)
            throw InputError(name + ": input " + std::to_string(i) + " (" + input_names[i] + ") is " + type->text() +
                             ", got " + values[i]->type->text());
    }
}

std::shared_ptr<const Executable::Bound> Executable::constants_or_throw() const {
    std::shared_ptr<const Bound> bound = std::atomic_load(&bound_);
    if (!bound)
        throw InputError(name + " has no weights yet",
                         "bind its " + std::to_string(constants.size()) + " constants first");
    return bound;
}

std::vector<Buffer> Executable::results(const Bound& bound, const Buffer* const* values,
                                        const std::vector<const Buffer*>& over) const {
    std::vector<Buffer> results(outputs.size());
    for (size_t i = 0; i < outputs.size(); i++) {
        const BufferSpec& spec = buffers[size_t(outputs[i])];
        const size_t place = size_t(spec.place);
        if (spec.kind == Kind::output && place != i) {
            results[i] = results[place];
        } else if (spec.kind == Kind::output && !over.empty() && over[i]) {
            results[i] = Buffer{spec.type, std::make_shared<Storage>()};
            results[i].storage->data = over[i]->data();
        } else if (spec.kind == Kind::output) {
            results[i] = Buffer{spec.type, allocate(spec.type->bytes)};
        } else if (spec.kind == Kind::input)
            results[i] = values[place]->storage->borrowed ? copy(*values[place]) : *values[place];
        else
            results[i] = bound.constants[place];
    }
    return results;
}

std::vector<int64_t> Executable::profile(const Buffer* const* values, size_t count) const {
    std::shared_ptr<const Bound> bound = constants_or_throw();
    WithoutGil released(true);
    for (size_t i = 0; i < count; i++)
        if (const EventRef& producer = values[i]->storage->producer) {
            producer->wait();
            producer->check();
        }
    std::vector<int64_t> times(launches_);
    execute(*bound, values, results(*bound, values), arena(), &times);
    return times;
}

std::vector<Buffer> Executable::run(const Buffer* const* values, size_t count, const Replaced* replaced) const {
    std::shared_ptr<const Bound> bound = constants_or_throw();
    const Async async = settings.async.load(std::memory_order_relaxed);
    bool late = async == Async::always ||
                (async == Async::automatic && schedule_.nanoseconds >= inline_ns && several_processors());
    std::vector<EventRef> after;
    bool borrowed = false;
    for (size_t i = 0; i < count; i++) {
        const Storage& storage = *values[i]->storage;
        borrowed = borrowed || storage.borrowed;
        if (storage.producer && (!storage.producer->ready() || storage.producer->failed()))
            after.push_back(storage.producer);
    }
    for (const EventRef& event : after) event->check();        // an input whose producer has failed
    if (async != Async::never && !after.empty()) late = true;  // do not wait for a producer: queue up behind it
    late = late && !borrowed;

    std::vector<const Buffer*> over;
    if (replaced && (late || after.empty()))  // while this thread waited, others could come to hold the old values
        for (const auto& [output, input] : updates)
            if (replaced->ours[input]) {
                over.resize(outputs.size());
                over[output] = values[input];
            }
    std::vector<Buffer> results = this->results(*bound, values, over);
    const StorageRef arena = late ? nullptr : this->arena();
    const StreamRef stream = late ? current_stream() : nullptr;
    EventRef event;
    if (late || !over.empty()) {
        event = late ? std::make_shared<Event>(stream) : std::make_shared<Event>();
        for (size_t i = 0; i < outputs.size(); i++) {
            const BufferSpec& spec = buffers[size_t(outputs[i])];
            if (spec.kind == Kind::output && size_t(spec.place) == i) results[i].storage->producer = event;
        }
    }
    try {
        if (!over.empty()) {
            replaced->store(results);
            for (size_t i = 0; i < over.size(); i++)
                if (over[i]) std::swap(results[i].storage->capacity, over[i]->storage->capacity);
        }
        if (late) {
            std::vector<Buffer> kept;
            kept.reserve(count);
            for (size_t i = 0; i < count; i++) kept.push_back(*values[i]);
            auto work = [self = shared_from_this(), bound, kept = std::move(kept), results] {
                std::vector<const Buffer*> inputs;
                for (const Buffer& buffer : kept) inputs.push_back(&buffer);
                self->execute(*bound, inputs.data(), results, self->arena());
            };
            WithoutGil released(true);
            stream->submit(name, std::move(work), std::move(after), event);
        } else {
            WithoutGil released(!after.empty() || schedule_.nanoseconds >= gil_ns);
            for (const EventRef& earlier : after) {
                earlier->wait();
                earlier->check();
            }
            execute(*bound, values, results, arena);
        }
    } catch (...) {
        if (event && !event->ready()) event->finish(std::current_exception());
        throw;
    }
    if (event && !late) event->finish();
    if (replaced && over.empty()) replaced->store(results);
    return results;
}

void Executable::execute(const Bound& bound, const Buffer* const* values, const std::vector<Buffer>& results,
                         const StorageRef& arena, std::vector<int64_t>* times) const {
    thread_local std::vector<void*> pointers;
    pointers.resize(schedule_.operands.size());
    for (const auto& operand : schedule_.operands) {
        const size_t place = size_t(operand.place);
        void*& pointer = pointers[operand.slot];
        switch (operand.kind) {
            case Kind::input: pointer = values[place]->data(); break;
            case Kind::output: pointer = results[place].data(); break;
            case Kind::constant: pointer = bound.constants[place].data(); break;
            case Kind::prepared: pointer = static_cast<char*>(bound.prepared->data) + place; break;
            default: pointer = static_cast<char*>(arena->data) + place; break;
        }
        pointer = static_cast<char*>(pointer) + operand.offset;
    }
    if (times)
        schedule_.profile(pointers.data(), *times);
    else
        schedule_.run(pointers.data());
}

}  // namespace jtc

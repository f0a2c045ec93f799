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

// Units of a launch, or the launches of a slice.
struct Chunk {
    const Schedule::Launch* launch;  // null: of a slice
    int64_t begin, end;
};

struct Wave {
    const Schedule* schedule;
    const std::vector<Chunk>* chunks;
    void* const* pointers;
    std::vector<int64_t>* times;
};

void run_chunk(void* context, int64_t number) {
    const Wave& wave = *static_cast<const Wave*>(context);
    const Chunk& chunk = (*wave.chunks)[size_t(number)];
    if (chunk.launch)
        chunk.launch->entry(wave.pointers + chunk.launch->slot, workspace(wave.schedule->workspace), chunk.begin,
                            chunk.end);
    else
        wave.schedule->run_slice(size_t(chunk.begin), size_t(chunk.end), wave.pointers, wave.times);
}

int64_t now() {
    using namespace std::chrono;
    return duration_cast<std::chrono::nanoseconds>(steady_clock::now().time_since_epoch()).count();
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

std::vector<const TensorType*> types_of(const std::vector<int>& numbers, const std::vector<BufferSpec>& buffers) {
    std::vector<const TensorType*> types;
    for (int number : numbers) types.push_back(buffers.at(size_t(number)).type);
    return types;
}

}  // namespace

size_t Blocks::of(const BufferSpec& buffer) const {
    switch (buffer.kind) {
        case Kind::input: return size_t(buffer.place);
        case Kind::output: return output(size_t(buffer.place));
        case Kind::constant: return constant(size_t(buffer.place));
        case Kind::prepared: return prepared();
        case Kind::scratch: return scratch();
        case Kind::own: return own();
        default: return arena();
    }
}

Schedule::Schedule(const std::vector<LaunchSpec>& specs, const std::vector<BufferSpec>& buffers, const Blocks& blocks,
                   size_t own)
    : own(own), own_block(blocks.own()) {
    int wave = -1;
    for (size_t number = 0; number < specs.size(); number++) {
        const LaunchSpec& spec = specs[number];
        if (spec.units <= 0) continue;
        if (waves.empty() || spec.wave != wave) waves.push_back({launches.size(), launches.size(), 0});
        wave = spec.wave;
        launches.push_back({spec.entry, operands.size(), operands.size() + spec.operands.size(), number, spec.slice,
                            spec.units, std::max<int64_t>(spec.nanoseconds, 1)});
        waves.back().end++;
        waves.back().nanoseconds += launches.back().nanoseconds;
        nanoseconds += launches.back().nanoseconds;
        workspace = std::max(workspace, spec.workspace);
        for (size_t i = 0; i < spec.operands.size(); i++) {
            const BufferSpec& buffer = buffers.at(size_t(spec.operands[i]));
            const size_t block = blocks.of(buffer);
            const int64_t begin = block < blocks.prepared() ? 0 : buffer.place;  // what other blocks share has offsets
            operands.push_back({block, begin + (spec.offsets.empty() ? 0 : spec.offsets.at(i))});
        }
    }
}

void* const* Schedule::pointers(void* const* blocks) const {
    thread_local std::vector<void*> found;
    found.resize(operands.size());
    void** slot = found.data();
    for (const Operand& operand : operands) *slot++ = static_cast<char*>(blocks[operand.block]) + operand.offset;
    return found.data();
}

void Schedule::run(void* const* blocks) const {
    void* const* pointers = this->pointers(blocks);
    std::optional<ThreadPool::Attention> attention;
    if (waves.size() > 1 && nanoseconds >= 2 * thread_ns) attention.emplace(ThreadPool::instance());
    for (const Wave& wave : waves) run(wave, pointers);
}

void Schedule::profile(void* const* blocks, std::vector<int64_t>& times) const {
    void* const* pointers = this->pointers(blocks);
    for (const Wave& wave : waves) {
        if (launches[wave.begin].slice < 0) {
            for (size_t i = wave.begin; i < wave.end; i++) {
                const int64_t start = now();
                run(Wave{i, i + 1, launches[i].nanoseconds}, pointers);
                times[launches[i].number] += now() - start;
            }
            continue;
        }
        std::vector<int64_t> busy(times.size());
        const int64_t start = now();
        run(wave, pointers, &busy);
        const int64_t passed = now() - start;
        int64_t all = 1;
        for (int64_t one : busy) all += one;
        for (size_t i = 0; i < busy.size(); i++)
            times[i] += int64_t(double(busy[i]) / double(all) * double(passed));
    }
}

void Schedule::run_slice(size_t begin, size_t end, void* const* pointers, std::vector<int64_t>* times) const {
    // Values of the slice lie behind the workspace of the kernels.
    constexpr size_t line = 64;
    const size_t behind = (workspace + line - 1) / line * line;
    char* memory = static_cast<char*>(jtc::workspace(behind + own));
    thread_local std::vector<void*> found;
    const size_t first = launches[begin].slot;
    found.assign(pointers + first, pointers + launches[end - 1].end);
    for (size_t i = 0; i < found.size(); i++)
        if (operands[first + i].block == own_block) found[i] = memory + behind + operands[first + i].offset;
    for (size_t i = begin; i < end; i++) {
        const Launch& launch = launches[i];
        const int64_t start = times ? now() : 0;
        launch.entry(found.data() + (launch.slot - first), memory, 0, launch.units);
        if (times) (*times)[launch.number] = now() - start;
    }
}

void Schedule::run(const Wave& wave, void* const* pointers, std::vector<int64_t>* times) const {
    ThreadPool& pool = ThreadPool::instance();
    const int64_t useful = std::min(int64_t(pool.threads()), wave.nanoseconds / thread_ns);
    const bool sliced = launches[wave.begin].slice >= 0;
    if (useful <= 1 && !sliced) {
        for (size_t i = wave.begin; i < wave.end; i++) {
            const Launch& launch = launches[i];
            launch.entry(pointers + launch.slot, jtc::workspace(workspace), 0, launch.units);
        }
        return;
    }
    thread_local std::vector<Chunk> chunks;
    chunks.clear();
    for (size_t i = wave.begin, end; sliced && i < wave.end; i = end) {
        for (end = i + 1; end < wave.end && launches[end].slice == launches[i].slice;) end++;
        chunks.push_back({nullptr, int64_t(i), int64_t(end)});
    }
    for (size_t i = wave.begin; !sliced && i < wave.end; i++) {
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
    jtc::Wave context{this, &chunks, pointers, times};
    pool.run(run_chunk, &context, int64_t(chunks.size()), int(std::max<int64_t>(useful, 1)));
}

Executable::Executable(std::string name, std::vector<BufferSpec> buffers, std::vector<int> inputs,
                       std::vector<int> outputs, std::vector<std::string> input_names,
                       std::vector<std::string> output_names, std::vector<int> constants,
                       std::vector<LaunchSpec> prepare, std::vector<LaunchSpec> launches,
                       std::vector<std::pair<size_t, size_t>> updates, size_t arena, size_t prepared, size_t scratch,
                       size_t own, std::shared_ptr<void> code)
    : name(std::move(name)), buffers(std::move(buffers)), inputs(std::move(inputs)), outputs(std::move(outputs)),
      input_types(types_of(this->inputs, this->buffers)), input_names(std::move(input_names)),
      output_names(std::move(output_names)), constants(std::move(constants)), updates(std::move(updates)),
      blocks_{this->inputs.size(), this->outputs.size(), this->constants.size()},
      prepare_(prepare, this->buffers, blocks_), schedule_(launches, this->buffers, blocks_, own),
      arena_(arena), prepared_(prepared), scratch_(scratch), launches_(launches.size()), code_(std::move(code)),
      needed_(this->constants.size()) {
    for (const auto& operand : schedule_.operands)
        if (operand.block >= blocks_.constant(0) && operand.block < blocks_.prepared())
            needed_.at(operand.block - blocks_.constant(0)) = true;
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
    bound->blocks.resize(blocks_.count());
    for (size_t i = 0; i < values.size(); i++) bound->blocks[blocks_.constant(i)] = values[i].data();
    bound->blocks[blocks_.prepared()] = bound->prepared->data;
    bound->blocks[blocks_.scratch()] = scratch->data;
    prepare_.run(bound->blocks.data());
    bound->blocks[blocks_.scratch()] = nullptr;
    for (size_t i = 0; i < values.size(); i++)
        if (!needed_[i]) {
            values[i].storage.reset();
            bound->blocks[blocks_.constant(i)] = nullptr;
        }
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
        const TensorType* type = input_types[i];
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
            results[i] = Buffer{spec.type, over[i]->storage};
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
    std::vector<void*> blocks(bound->blocks);
    for (size_t i = 0; i < count; i++) blocks[i] = values[i]->data();
    const std::vector<Buffer> results = this->results(*bound, values);
    add(results, blocks);
    std::vector<int64_t> times(launches_);
    execute(blocks, arena(), &times);
    return times;
}

std::vector<Buffer> Executable::run(const Buffer* const* values, size_t count, const Replaced* replaced) const {
    std::shared_ptr<const Bound> bound = constants_or_throw();
    const Async async = settings.async.load(std::memory_order_relaxed);
    bool late = async == Async::always ||
                (async == Async::automatic && schedule_.nanoseconds >= inline_ns && several_processors());
    std::vector<void*> blocks(bound->blocks);
    std::vector<EventRef> after;
    bool borrowed = false;
    for (size_t i = 0; i < count; i++) {
        const Storage& storage = *values[i]->storage;
        blocks[i] = storage.data;
        borrowed = borrowed || storage.borrowed;
        if (storage.producer && (!storage.producer->ready() || storage.producer->failed()))
            after.push_back(storage.producer);
    }
    for (const EventRef& event : after) event->check();        // an input whose producer has failed
    if (async != Async::never && !after.empty()) late = true;  // do not wait for a producer: queue up behind it
    late = late && !borrowed;

    std::vector<const Buffer*> over;
    if (replaced && (late || after.empty()))  // while this thread waited, others could come to hold the old values
        for (size_t k = 0; k < updates.size(); k++)
            if (replaced->ours[k]) {
                const auto [output, input] = updates[k];
                over.resize(outputs.size());
                over[output] = values[input];
            }
    std::vector<Buffer> results = this->results(*bound, values, over);
    add(results, blocks);
    const StorageRef arena = late ? nullptr : this->arena();
    std::vector<Buffer> kept;  // while this thread waits, or another one runs the program
    if (late || !after.empty())
        for (size_t i = 0; i < count; i++) kept.push_back(*values[i]);
    const StreamRef stream = late ? current_stream() : nullptr;
    EventRef event;
    if (late || (!over.empty() && !tiny())) {  // others may look before it is finished
        event = late ? std::make_shared<Event>(stream) : std::make_shared<Event>();
        for (size_t i = 0; i < outputs.size(); i++) {
            const BufferSpec& spec = buffers[size_t(outputs[i])];
            if (spec.kind == Kind::output && size_t(spec.place) == i) results[i].storage->producer = event;
        }
    }
    try {
        if (!over.empty()) replaced->store(results);
        if (late) {
            auto work = [self = shared_from_this(), bound, kept = std::move(kept), results,
                         blocks = std::move(blocks)]() mutable { self->execute(blocks, self->arena()); };
            WithoutGil released(true);
            stream->submit(name, std::move(work), std::move(after), event);
        } else {
            WithoutGil released(!after.empty() || !tiny());
            for (const EventRef& earlier : after) {
                earlier->wait();
                earlier->check();
            }
            execute(blocks, arena);
        }
    } catch (...) {
        if (event && !event->ready()) event->finish(std::current_exception());
        throw;
    }
    if (event && !late) event->finish();
    if (replaced && over.empty()) replaced->store(results);
    return results;
}

void Executable::add(const std::vector<Buffer>& results, std::vector<void*>& blocks) const {
    for (size_t i = 0; i < results.size(); i++) blocks[blocks_.output(i)] = results[i].data();
}

void Executable::execute(std::vector<void*>& blocks, const StorageRef& arena, std::vector<int64_t>* times) const {
    if (arena) blocks[blocks_.arena()] = arena->data;
    if (times)
        schedule_.profile(blocks.data(), *times);
    else
        schedule_.run(blocks.data());
}

}  // namespace jtc

// A compiled program: kernel functions, where their operands lie, and the order of the launches.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "buffer.h"

namespace jtc {

// One kernel: units [begin, end) on the given operands, with memory private to the thread.
using Entry = void (*)(void* const* operands, void* workspace, int64_t begin, int64_t end);

enum class Kind : uint8_t { input, output, constant, prepared, scratch, arena, own };

struct BufferSpec {
    std::string name;
    const TensorType* type;
    Kind kind;
    int64_t place;  // number of the input, output or constant; offset in its block otherwise
};

struct LaunchSpec {
    Entry entry;
    std::vector<int> operands;
    std::vector<int64_t> offsets;  // where in each operand it starts, in bytes; empty: 0
    int64_t units;
    size_t workspace;
    int wave;
    int slice;            // of its wave; -1: its units are shared by threads
    int64_t nanoseconds;  // rough time on one thread
};

// The blocks of memory that a program works on, numbered: inputs, outputs, constants, and those of intermediate values.
struct Blocks {
    size_t inputs, outputs, constants;

    size_t output(size_t number) const { return inputs + number; }
    size_t constant(size_t number) const { return inputs + outputs + number; }
    size_t prepared() const { return constant(constants); }
    size_t scratch() const { return prepared() + 1; }
    size_t arena() const { return prepared() + 2; }
    size_t own() const { return prepared() + 3; }  // of the thread that runs a slice
    size_t count() const { return prepared() + 4; }
    size_t of(const BufferSpec& buffer) const;
};

// Launches in the form in which they run: operands are slots of one array of pointers.
struct Schedule {
    struct Launch {
        Entry entry;
        size_t slot, end;  // its operands
        size_t number;     // in the plan
        int slice;
        int64_t units, nanoseconds;
    };
    struct Wave {
        size_t begin, end;  // launches
        int64_t nanoseconds;
    };
    struct Operand {
        size_t block;
        int64_t offset;
    };
    std::vector<Launch> launches;
    std::vector<Wave> waves;
    std::vector<Operand> operands;  // of each slot
    size_t workspace = 0, own = 0;  // bytes of each thread: for one kernel at a time, and for the values of one slice
    int64_t nanoseconds = 0;
    const size_t own_block;

    Schedule(const std::vector<LaunchSpec>& launches, const std::vector<BufferSpec>& buffers, const Blocks& blocks,
             size_t own = 0);
    // blocks: where each of them begins.
    void run(void* const* blocks) const;
    // As `run`, one launch after another, but for slices; adds the nanoseconds that launch i of the plan took to
    // times[i].  Of slices, that is each launch's share of what all of them took.
    void profile(void* const* blocks, std::vector<int64_t>& times) const;
    // The launches [begin, end) of one slice on this thread.  times: as of `profile`, in nanoseconds of this thread
    void run_slice(size_t begin, size_t end, void* const* pointers, std::vector<int64_t>* times) const;

private:
    void* const* pointers(void* const* blocks) const;
    void run(const Wave& wave, void* const* pointers, std::vector<int64_t>* times = nullptr) const;
};

enum class Async { never, always, automatic };
struct Settings {
    std::atomic<Async> async{Async::automatic};
};
extern Settings settings;

// State that a caller replaces by results of the run.
struct Replaced {
    // For each of the program's updates, whether nobody but the caller holds the memory of the input, and the caller
    // replaces it by the output: then the output may be written over it.
    std::vector<char> ours;
    // Called once, with the GIL, to put the results in the place of the old values: before memory is written over, so
    // that no other thread finds the old values any more, else once nothing can fail.
    std::function<void(const std::vector<Buffer>&)> store;
};

class Executable : public std::enable_shared_from_this<Executable> {
public:
    Executable(std::string name, std::vector<BufferSpec> buffers, std::vector<int> inputs, std::vector<int> outputs,
               std::vector<std::string> input_names, std::vector<std::string> output_names, std::vector<int> constants,
               std::vector<LaunchSpec> prepare, std::vector<LaunchSpec> launches,
               std::vector<std::pair<size_t, size_t>> updates, size_t arena, size_t prepared, size_t scratch,
               size_t own, std::shared_ptr<void> code);

    // Give the constants, in plan order, and run what depends on them alone.  Calls under way keep the old ones.
    void bind(std::vector<Buffer> constants);
    bool bound() const { return std::atomic_load(&bound_) != nullptr; }

    // Throws InputError where a buffer does not fit the program's input.
    void check(const Buffer* const* inputs, size_t count) const;
    // Runs the program, now or on the current stream; the results may not be ready yet.  Inputs have been checked.
    // Gives the GIL back while it runs or waits, if it holds it and the program is not tiny.  The caller keeps the
    // inputs alive until then; those of a tiny program only while the GIL is held and no Python code runs.
    std::vector<Buffer> run(const Buffer* const* inputs, size_t count, const Replaced* replaced = nullptr) const;
    // Runs the program at once, one launch after another; returns the nanoseconds that each launch of the plan took.
    std::vector<int64_t> profile(const Buffer* const* inputs, size_t count) const;
    // Whether it takes so little time that giving the GIL back costs more than it gains.
    bool tiny() const { return schedule_.nanoseconds < 20'000; }

    const std::string name;
    const std::vector<BufferSpec> buffers;
    const std::vector<int> inputs, outputs;
    const std::vector<const TensorType*> input_types;
    const std::vector<std::string> input_names, output_names;
    const std::vector<int> constants;
    const std::vector<std::pair<size_t, size_t>> updates;  // (output, input) that may lie in one place

    // Programs that take less than this run on the calling thread: handing them over costs more than it gains.
    static constexpr int64_t inline_ns = 200'000;

private:
    struct Bound {
        std::vector<Buffer> constants;  // those that launches or outputs refer to
        StorageRef prepared;
        std::vector<void*> blocks;      // of every run; null where they are the run's own
    };

    const Blocks blocks_;
    const Schedule prepare_, schedule_;
    const size_t arena_, prepared_, scratch_, launches_;  // bytes, and launches of the plan
    const std::shared_ptr<void> code_;                    // keeps the kernel functions loaded
    std::shared_ptr<const Bound> bound_;
    std::mutex bind_mutex_;
    std::vector<bool> needed_;  // constants that are still read after binding

    std::shared_ptr<const Bound> constants_or_throw() const;
    // over: for each output the input whose storage it takes over, or null; an empty list where all get their own.
    std::vector<Buffer> results(const Bound& bound, const Buffer* const* inputs,
                                const std::vector<const Buffer*>& over = {}) const;
    StorageRef arena() const { return arena_ ? allocate(arena_) : nullptr; }
    // Adds the memory of the results; then all blocks are there but the arena.
    void add(const std::vector<Buffer>& results, std::vector<void*>& blocks) const;
    // times: where to add what each launch takes; null while nobody asks.
    void execute(std::vector<void*>& blocks, const StorageRef& arena, std::vector<int64_t>* times = nullptr) const;
};

}  // namespace jtc

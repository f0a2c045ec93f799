// The memory pool: 64-byte aligned blocks in size classes, kept for reuse after they are freed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <string>
#include <vector>

namespace jtc {

struct OutOfMemory : std::bad_alloc {
    std::string message;
    explicit OutOfMemory(std::string message) : message(std::move(message)) {}
    const char* what() const noexcept override { return message.c_str(); }
};

struct MemoryStatistics {
    size_t live = 0;      // bytes in use
    size_t cached = 0;    // bytes freed and kept
    size_t peak = 0;      // largest value of live
    size_t blocks = 0;    // blocks in use
    uint64_t hits = 0;    // allocations served from kept blocks
    uint64_t misses = 0;  // allocations that asked the system
};

class MemoryPool {
public:
    static MemoryPool& instance();

    // A block of at least `bytes` bytes; `capacity` becomes its real size.  Throws OutOfMemory.
    void* allocate(size_t bytes, size_t& capacity);
    void release(void* block, size_t capacity) noexcept;
    // Give kept blocks back to the system, largest first, until at most `keep` bytes are kept.
    void trim(size_t keep = 0);
    void set_limit(size_t bytes);
    MemoryStatistics statistics();
    void reset_peak();

    std::mutex mutex;  // held across a fork, so that the child finds the lists in order

    static constexpr size_t alignment = 64;

private:
    static constexpr size_t classes = 64 * 4 + 4;
    std::vector<void*> free_[classes];
    size_t limit_ = size_t(4) << 30;
    MemoryStatistics statistics_;

    void trim_locked(size_t keep);
};

}  // namespace jtc

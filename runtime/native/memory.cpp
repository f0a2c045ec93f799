#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>

namespace jtc {
namespace {

constexpr size_t page = 4096, huge_page = size_t(2) << 20;

// Four classes between powers of two: at most a quarter of a block is unused.
size_t class_of(size_t bytes, size_t& capacity) {
    bytes = (bytes + MemoryPool::alignment - 1) / MemoryPool::alignment * MemoryPool::alignment;
    if (bytes <= MemoryPool::alignment) {
        capacity = MemoryPool::alignment;
        return 0;
    }
    size_t exponent = 63 - __builtin_clzll(bytes - 1);
    size_t base = size_t(1) << exponent, step = base / 4;
    size_t quarter = (bytes - base + step - 1) / step;
    capacity = base + quarter * step;
    return exponent * 4 + quarter - 1;
}

}  // namespace

MemoryPool& MemoryPool::instance() {
    static MemoryPool* pool = new MemoryPool;  // never destroyed: buffers may outlive static objects
    return *pool;
}

void* MemoryPool::allocate(size_t bytes, size_t& capacity) {
    if (bytes > size_t(1) << 62) throw OutOfMemory("cannot allocate " + std::to_string(bytes) + " bytes");
    size_t index = class_of(bytes, capacity);
    std::lock_guard<std::mutex> lock(mutex);
    auto& list = free_[index];
    void* block = nullptr;
    if (!list.empty()) {
        block = list.back();
        list.pop_back();
        statistics_.cached -= capacity;
        statistics_.hits++;
    } else {
        size_t align = capacity >= huge_page ? huge_page : capacity >= page ? page : alignment;
        for (int attempt = 0; attempt < 2 && !block; attempt++) {
            if (attempt) trim_locked(0);
            if (posix_memalign(&block, align, capacity)) block = nullptr;
        }
        if (!block)
            throw OutOfMemory("cannot allocate " + std::to_string(bytes) +
                              " bytes: " + std::to_string(statistics_.live) + " bytes are in use by " +
                              std::to_string(statistics_.blocks) + " buffers");
        if (capacity >= huge_page) madvise(block, capacity, MADV_HUGEPAGE);
        statistics_.misses++;
    }
    statistics_.live += capacity;
    statistics_.blocks++;
    if (statistics_.live > statistics_.peak) statistics_.peak = statistics_.live;
    return block;
}

void MemoryPool::release(void* block, size_t capacity) noexcept {
    size_t same;
    size_t index = class_of(capacity, same);
    std::lock_guard<std::mutex> lock(mutex);
    statistics_.live -= capacity;
    statistics_.blocks--;
    if (statistics_.cached + capacity <= limit_) {
        try {
            free_[index].push_back(block);
            statistics_.cached += capacity;
            return;
        } catch (const std::bad_alloc&) {  // no memory for the list itself: give the block back instead
        }
    }
    std::free(block);
}

void MemoryPool::trim(size_t keep) {
    std::lock_guard<std::mutex> lock(mutex);
    trim_locked(keep);
}

void MemoryPool::trim_locked(size_t keep) {
    for (size_t index = classes; index-- > 0 && statistics_.cached > keep;) {
        size_t base = size_t(1) << index / 4;
        size_t capacity = index ? base + (index % 4 + 1) * (base / 4) : alignment;
        auto& list = free_[index];
        while (!list.empty() && statistics_.cached > keep) {
            std::free(list.back());
            list.pop_back();
            statistics_.cached -= capacity;
        }
    }
}

void MemoryPool::set_limit(size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    limit_ = bytes;
    trim_locked(bytes);
}

MemoryStatistics MemoryPool::statistics() {
    std::lock_guard<std::mutex> lock(mutex);
    return statistics_;
}

void MemoryPool::reset_peak() {
    std::lock_guard<std::mutex> lock(mutex);
    statistics_.peak = statistics_.live;
}

}  // namespace jtc

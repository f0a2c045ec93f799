// Tensors in memory: a type and a share of some storage.
#pragma once
#include <memory>
#include <vector>

#include "memory.h"
#include "stream.h"
#include "types.h"

namespace jtc {

// Memory, and the event of the work that writes it.
struct Storage {
    void* data = nullptr;
    size_t capacity = 0;          // of the pool's block; 0 where the memory is somebody else's
    std::shared_ptr<void> owner;  // keeps memory that is not the pool's alive
    bool borrowed = false;        // the user may change it at any time: readers may not be late
    EventRef producer;            // set while nobody else has the storage

    Storage() = default;
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;
    ~Storage() {
        if (capacity) MemoryPool::instance().release(data, capacity);
    }
};
using StorageRef = std::shared_ptr<Storage>;

inline StorageRef allocate(size_t bytes) {
    auto storage = std::make_shared<Storage>();
    size_t capacity = 0;  // stays out of the storage where allocating fails: nothing is to be released then
    storage->data = MemoryPool::instance().allocate(bytes, capacity);
    storage->capacity = capacity;
    return storage;
}

struct Buffer {
    const TensorType* type = nullptr;
    StorageRef storage;

    void* data() const { return storage->data; }
    bool ready() const { return !storage->producer || storage->producer->ready(); }
    bool failed() const { return storage->producer && storage->producer->failed(); }
};

// Fill with the bytes of one element.
void fill(void* data, const TensorType& type, const void* element);

}  // namespace jtc

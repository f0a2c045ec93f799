#include "threads.h"

#include <chrono>

#include "memory.h"

namespace jtc {

std::atomic<int64_t> spin_us{50};

namespace {

// Microseconds before a spinning thread offers its processor to others: most waits between threads that all run are
// shorter, and on a busy machine a thread that has yielded comes back milliseconds later.
constexpr int64_t patience = 20;

// How much longer helpers spin between the calls of one program: waking one takes as long as a small kernel.
constexpr int64_t attentive = 10;

thread_local bool inside_pool = false;  // this thread is doing chunks: a nested run goes serially

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#else
    std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

int64_t now_us() {
    using namespace std::chrono;
    return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
}

struct Workspace {
    void* memory = nullptr;
    size_t capacity = 0;
    ~Workspace() {
        if (memory) MemoryPool::instance().release(memory, capacity);
    }
};
thread_local Workspace own_workspace;

ThreadPool* pool = new ThreadPool;  // never destroyed: helpers may sleep in it when the process ends

}  // namespace

Spinner::Spinner(int64_t microseconds) : limit_(microseconds) {}

bool Spinner::spin() {
    if (limit_ <= 0) return false;
    if (++count_ % 32 == 0) {
        int64_t now = now_us();
        if (!end_) {
            end_ = now + limit_;
            yield_ = now + patience;
        }
        if (now >= end_) return false;
        if (now >= yield_)
            std::this_thread::yield();  // where processors are short, the thread that is waited for may need this one
    }
    pause();
    return true;
}

void* workspace(size_t bytes) {
    Workspace& own = own_workspace;
    if (own.capacity < bytes) {
        if (own.memory) MemoryPool::instance().release(own.memory, own.capacity);
        own.memory = nullptr;
        own.capacity = 0;
        size_t capacity;
        own.memory = MemoryPool::instance().allocate(bytes, capacity);
        own.capacity = capacity;
    }
    return own.memory;
}

ThreadPool& ThreadPool::instance() { return *pool; }

void ThreadPool::after_fork() {
    int threads = pool->threads();
    pool = new ThreadPool;  // the old one's threads exist only in the parent; leave it alone
    pool->threads_ = threads;
    inside_pool = false;
}

void ThreadPool::set_threads(int count) {
    std::lock_guard<std::mutex> lock(busy);
    if (count == threads()) return;
    stop();
    threads_ = count;
}

void ThreadPool::start(int helpers) {
    stop_ = false;
    for (int i = int(helpers_.size()); i < helpers; i++) helpers_.emplace_back(&ThreadPool::helper, this, i + 1);
}

void ThreadPool::stop() {
    {
        std::lock_guard<std::mutex> lock(sleep_mutex_);
        stop_ = true;
        epoch_++;
    }
    wake_.notify_all();
    for (auto& thread : helpers_) thread.join();
    helpers_.clear();
}

void ThreadPool::run(Body body, void* context, int64_t chunks, int threads) {
    if (chunks <= 0) return;
    if (threads > this->threads()) threads = this->threads();
    if (threads > chunks) threads = int(chunks);
    std::unique_lock<std::mutex> lock(busy, std::defer_lock);
    if (threads <= 1 || inside_pool || !lock.try_lock()) {
        for (int64_t i = 0; i < chunks; i++) body(context, i);
        return;
    }
    start(this->threads() - 1);
    if (claims_size_ < chunks) {
        claims_ = std::make_unique<Claim[]>(size_t(chunks));
        claims_size_ = chunks;
    }
    for (int64_t i = 0; i < chunks; i++) claims_[size_t(i)].taken.store(false, std::memory_order_relaxed);
    body_ = body;
    context_ = context;
    chunks_ = chunks;
    parts_ = threads;
    done_.store(0, std::memory_order_relaxed);
    open_.store(true);
    epoch_.fetch_add(1);
    if (sleepers_.load()) {
        std::lock_guard<std::mutex> sleeping(sleep_mutex_);
        wake_.notify_all();
    }
    work(0);
    // What is still running was begun by a helper, which is awake: spin, but let it run where processors are short.
    Spinner spinner(100);
    while (done_.load(std::memory_order_acquire) < chunks)
        if (!spinner.spin()) std::this_thread::yield();
    open_.store(false);
    while (inside_.load()) pause();  // helpers that came late look at `open_` and leave
}

void ThreadPool::work(int part) {
    inside_pool = true;
    int64_t chunks = chunks_, finished = 0, first = chunks * part / parts_;
    for (int64_t k = 0; k < chunks; k++) {
        int64_t i = first + k < chunks ? first + k : first + k - chunks;
        std::atomic<bool>& taken = claims_[size_t(i)].taken;
        if (taken.load(std::memory_order_relaxed) || taken.exchange(true, std::memory_order_relaxed)) continue;
        body_(context_, i);
        finished++;
    }
    inside_pool = false;
    done_.fetch_add(finished, std::memory_order_release);
}

void ThreadPool::helper(int number) {
    uint64_t seen = 0;
    for (;;) {
        const int64_t limit = spin_us.load(std::memory_order_relaxed);
        Spinner spinner(limit), longer(limit * attentive);
        while (epoch_.load() == seen) {
            // The clock of the shorter wait begins when the program has ended, or the call that others are still at.
            const bool running = attention_.load(std::memory_order_relaxed) > 0 || open_.load(std::memory_order_relaxed);
            if (running ? longer.spin() : spinner.spin()) continue;
            std::unique_lock<std::mutex> lock(sleep_mutex_);
            sleepers_++;
            wake_.wait(lock, [&] { return epoch_.load() != seen; });
            sleepers_--;
        }
        seen = epoch_.load();
        if (stop_.load()) return;
        inside_.fetch_add(1);
        if (open_.load() && number < parts_) work(number);
        inside_.fetch_sub(1);
    }
}

}  // namespace jtc

// The thread pool: chunks of work on the calling thread and its helpers, and memory private to a thread.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace jtc {

// Spins for a while, then says that it is time to sleep.
class Spinner {
public:
    explicit Spinner(int64_t microseconds);
    bool spin();  // false when the time is over
private:
    int64_t limit_, end_ = 0, yield_ = 0;
    int count_ = 0;
};

class ThreadPool {
public:
    using Body = void (*)(void* context, int64_t chunk);

    static ThreadPool& instance();
    // In the child of a fork: the helpers are gone; start with a fresh pool.
    static void after_fork();

    // Calls body(context, i) for every 0 <= i < chunks, on this thread and at most threads - 1 helpers, and returns
    // when all are done.  Thread t begins with the t-th part of the chunks (so that equal calls find their data in the
    // same caches) and then takes what others have not begun.  Where helpers are busy with another call, this thread
    // does everything alone.
    void run(Body body, void* context, int64_t chunks, int threads);

    // While one of these exists, helpers expect the next call soon and spin for longer before they sleep.
    class Attention {
    public:
        explicit Attention(ThreadPool& pool) : pool_(pool) { pool_.attention_.fetch_add(1, std::memory_order_relaxed); }
        ~Attention() { pool_.attention_.fetch_sub(1, std::memory_order_relaxed); }
        Attention(const Attention&) = delete;

    private:
        ThreadPool& pool_;
    };

    void set_threads(int count);
    int threads() const { return threads_.load(std::memory_order_relaxed); }
    void stop();  // end all helpers; the next run starts them again

    std::mutex busy;  // held while helpers work; and across a fork

private:
    struct alignas(64) Claim {
        std::atomic<bool> taken{false};
    };

    std::atomic<int> threads_{1};
    std::vector<std::thread> helpers_;

    // The job: written while no helper is inside, published by open_.
    Body body_ = nullptr;
    void* context_ = nullptr;
    int64_t chunks_ = 0;
    int parts_ = 1;
    std::unique_ptr<Claim[]> claims_;
    int64_t claims_size_ = 0;
    std::atomic<int64_t> done_{0};
    std::atomic<bool> open_{false};
    std::atomic<int> inside_{0};
    std::atomic<uint64_t> epoch_{0};

    std::atomic<bool> stop_{false};
    std::atomic<int> attention_{0};
    std::atomic<int> sleepers_{0};
    std::mutex sleep_mutex_;
    std::condition_variable wake_;

    void start(int helpers);
    void helper(int number);
    void work(int part);
};

// At least `bytes` bytes of 64-byte aligned memory that only this thread uses, until its next call.
void* workspace(size_t bytes);

extern std::atomic<int64_t> spin_us;

}  // namespace jtc

// Streams: queues of work that run in order on a thread of their own; events: when a piece of work is finished, and
// how.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace jtc {

class Stream;

class Event {
public:
    Event() = default;  // of work for the stream's own thread
    // Of work for any thread.
    explicit Event(std::weak_ptr<Stream> stream) : stream_(std::move(stream)) {}
    bool ready() const { return state_.load(std::memory_order_acquire) != pending; }
    bool failed() const { return state_.load(std::memory_order_acquire) == error; }
    // Until it is ready; the caller must not hold the GIL.  Work that nobody has begun is done by the thread that
    // waits: waking the stream's thread, and being woken by it, would take longer than a short program.
    void wait() const;
    void check() const;  // rethrow the error of the work, if it has failed
    void finish(std::exception_ptr error = nullptr);
    bool observed() const { return observed_.load(); }
    bool anywhere() const { return !stream_.expired(); }  // whether a thread that waits may do the work

private:
    enum State { pending, done, error };
    std::atomic<int> state_{pending};
    mutable std::atomic<bool> observed_{false};
    std::exception_ptr error_;
    const std::weak_ptr<Stream> stream_;  // where its work is queued
    mutable std::mutex mutex_;
    mutable std::condition_variable wake_;
};
using EventRef = std::shared_ptr<Event>;

class Stream {
public:
    explicit Stream(std::string name) : name(std::move(name)) {}
    ~Stream();  // finishes the queue; the caller must not hold the GIL

    // Run `work` after everything submitted before and after the events in `after`, then finish `event`; where one of
    // those failed, `event` fails alike and `work` is dropped.  `what` names the work in errors.  Waits while `limit`
    // pieces are queued; the caller must not hold the GIL.
    void submit(std::string what, std::function<void()> work, std::vector<EventRef> after, EventRef event);
    bool idle() const {
        return finished_.load(std::memory_order_acquire) == submitted_.load(std::memory_order_acquire);
    }
    // Wait for what was submitted; rethrow the first error that nobody has seen.  The caller must not hold the GIL.
    void synchronize();
    void drain();                    // wait for what was submitted, whatever comes of it; without the GIL
    void help(const Event& wanted);  // run queued work until `wanted` is ready, or another thread is at it
    void stop();                     // finish the queue and end the thread; a later submit starts it again

    // For forks.  While a stream is closed, `submit` waits, except in work that runs on a stream.
    void close();
    void open();  // as often as it was closed
    void lock() { mutex_.lock(); }
    void unlock() { mutex_.unlock(); }
    void make_anew();  // a locked stream in the child, where its thread does not exist: unlocked and open

    const std::string name;
    static constexpr int64_t limit = 64;  // keeps a program that runs ahead from filling the memory

private:
    struct Task {
        std::string what;
        std::function<void()> work;
        std::vector<EventRef> after;
        EventRef event;
    };

    std::mutex mutex_;
    std::condition_variable wake_, drained_;
    std::deque<Task> queue_;
    std::atomic<int64_t> submitted_{0}, finished_{0};
    bool sleeping_ = false, stop_ = false;
    bool running_ = false;  // a thread, the stream's or one that waits, is at a piece of work
    int closed_ = 0;        // how many forks are under way
    std::thread thread_;
    EventRef failure_;

    void loop();
    void run_first(std::unique_lock<std::mutex>& lock);  // the first piece of the queue, without the lock meanwhile
};
using StreamRef = std::shared_ptr<Stream>;

// All streams of the process; the default one comes first.
StreamRef default_stream();
StreamRef make_stream(std::string name);
std::vector<StreamRef> all_streams();
bool on_a_stream();  // whether this thread runs work of a stream: it must not wait for the end of one
// The stream that this thread submits to.
StreamRef current_stream();
void set_current_stream(StreamRef stream);
std::vector<StreamRef>& stream_stack();  // of this thread: what to return to when a `with stream:` ends

}  // namespace jtc

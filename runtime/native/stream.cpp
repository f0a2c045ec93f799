#include "stream.h"

#include <chrono>

#include "memory.h"
#include "threads.h"

namespace jtc {
namespace {

struct Registry {
    std::mutex mutex;
    std::vector<std::weak_ptr<Stream>> streams;
    StreamRef first = std::make_shared<Stream>("default");
};

Registry& registry() {
    static Registry* all = new Registry;  // never destroyed: threads of streams may outlive static objects
    return *all;
}

// How long a single piece of work is left to a thread that will wait for it.  Were two threads to begin it and wait, they
// and the pool's helpers would be more than there are processors.
constexpr std::chrono::microseconds grace{50};

thread_local bool on_stream = false;  // this thread is a stream's, or does its work
thread_local StreamRef current;
thread_local std::vector<StreamRef> outer;

}  // namespace

void Event::wait() const {
    if (ready()) return;
    if (StreamRef stream = stream_.lock()) stream->help(*this);
    Spinner spinner(spin_us.load(std::memory_order_relaxed));
    while (!ready()) {
        if (spinner.spin()) continue;
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return ready(); });
    }
}

void Event::check() const {
    if (!failed()) return;
    observed_ = true;
    std::rethrow_exception(error_);
}

void Event::finish(std::exception_ptr failure) {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        error_ = failure;
        state_.store(failure ? error : done, std::memory_order_release);
    }
    wake_.notify_all();
}

Stream::~Stream() { stop(); }

void Stream::submit(std::string what, std::function<void()> work, std::vector<EventRef> after, EventRef event) {
    bool asleep;
    {
        std::unique_lock<std::mutex> lock(mutex_);
        drained_.wait(lock, [&] { return submitted_ - finished_ < limit && (!closed_ || on_stream); });
        if (!thread_.joinable()) {
            stop_ = false;
            thread_ = std::thread(&Stream::loop, this);
        }
        queue_.push_back(Task{std::move(what), std::move(work), std::move(after), std::move(event)});
        submitted_++;
        asleep = sleeping_;
    }
    if (asleep) wake_.notify_one();
}

void Stream::loop() {
    on_stream = true;
    bool worked = false;  // then the next piece of work may come soon
    for (;;) {
        Spinner spinner(spin_us.load(std::memory_order_relaxed));
        while (worked && idle() && spinner.spin()) {}
        std::unique_lock<std::mutex> lock(mutex_);
        sleeping_ = true;
        wake_.wait(lock, [&] { return !running_ && (stop_ || !queue_.empty()); });
        if (queue_.size() == 1 && queue_.front().event->anywhere())
            wake_.wait_for(lock, grace, [&] { return running_ || stop_ || queue_.size() != 1; });
        sleeping_ = false;
        worked = !running_ && !queue_.empty();
        if (worked)
            run_first(lock);
        else if (stop_ && !running_)
            return;
    }
}

void Stream::help(const Event& wanted) {
    const bool before = on_stream;
    std::unique_lock<std::mutex> lock(mutex_);
    on_stream = true;
    while (!running_ && !queue_.empty() && queue_.front().event->anywhere() && !wanted.ready()) run_first(lock);
    on_stream = before;
    const bool left = !running_ && (stop_ || !queue_.empty());
    lock.unlock();
    if (left) wake_.notify_one();
}

void Stream::run_first(std::unique_lock<std::mutex>& lock) {
    Task task = std::move(queue_.front());
    queue_.pop_front();
    running_ = true;
    lock.unlock();
    std::exception_ptr error;
    try {
        for (auto& event : task.after) {
            event->wait();
            event->check();
        }
        task.work();
    } catch (const OutOfMemory& full) {
        error = std::make_exception_ptr(OutOfMemory(task.what + ": " + full.what()));
    } catch (...) {  // an error of an earlier piece of work, or of Python: it says where it comes from
        error = std::current_exception();
    }
    task.work = nullptr;  // gives its buffers back before anybody learns that it is finished
    task.after.clear();
    task.event->finish(error);
    lock.lock();
    running_ = false;
    if (error && !failure_) failure_ = task.event;
    finished_++;
    drained_.notify_all();
}

void Stream::drain() {
    const int64_t all = submitted_.load();
    Spinner spinner(spin_us.load(std::memory_order_relaxed));
    while (finished_.load(std::memory_order_acquire) < all && spinner.spin()) {}
    std::unique_lock<std::mutex> lock(mutex_);
    drained_.wait(lock, [&] { return finished_ >= all; });
}

void Stream::synchronize() {
    drain();
    EventRef failure;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        failure.swap(failure_);
    }
    if (failure && !failure->observed()) failure->check();
}

void Stream::stop() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
}

void Stream::close() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_++;
}

void Stream::open() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        closed_--;
    }
    drained_.notify_all();
}

void Stream::make_anew() {
    new (&mutex_) std::mutex;  // their state may count threads that are not here
    new (&wake_) std::condition_variable;
    new (&drained_) std::condition_variable;
    new (&thread_) std::thread;
    sleeping_ = stop_ = running_ = false;
    closed_ = 0;
}

StreamRef default_stream() { return registry().first; }

StreamRef make_stream(std::string name) {
    auto stream = std::make_shared<Stream>(std::move(name));
    Registry& all = registry();
    std::lock_guard<std::mutex> lock(all.mutex);
    all.streams.push_back(stream);
    return stream;
}

std::vector<StreamRef> all_streams() {
    Registry& all = registry();
    std::lock_guard<std::mutex> lock(all.mutex);
    std::vector<StreamRef> result{all.first};
    std::vector<std::weak_ptr<Stream>> alive;
    for (auto& weak : all.streams)
        if (auto stream = weak.lock()) {
            alive.push_back(weak);
            result.push_back(std::move(stream));
        }
    all.streams.swap(alive);
    return result;
}

bool on_a_stream() { return on_stream; }

StreamRef current_stream() { return current ? current : default_stream(); }

std::vector<StreamRef>& stream_stack() { return outer; }

void set_current_stream(StreamRef stream) { current = std::move(stream); }

}  // namespace jtc

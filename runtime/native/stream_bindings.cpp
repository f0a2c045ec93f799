// Streams in Python, and what the interpreter's life asks of them: fork and exit.
#include <pthread.h>

#include <algorithm>
#include <thread>

#include "executable.h"
#include "python.h"
#include "threads.h"

namespace jtc {
namespace {

// A Python function as work.  It takes the GIL to run, and its error says which work it comes from.
std::function<void()> python_work(const std::string& what, nb::object function) {
    // A shared pointer, because the last copy may go where the GIL is not held.
    std::shared_ptr<nb::object> held(new nb::object(std::move(function)), [](nb::object* object) {
        nb::gil_scoped_acquire acquire;
        delete object;
    });
    return [what, held] {
        nb::gil_scoped_acquire acquire;
        try {
            (*held)();
        } catch (nb::python_error& error) {
            error.value().attr("add_note")("while running " + what);
            throw;
        }
    };
}

void synchronize() {
    auto streams = all_streams();
    nb::gil_scoped_release release;
    for (auto& stream : streams) stream->synchronize();
}

// A fork copies this thread alone.  Before it all streams are closed to new work and finish what they have; they stay
// closed until it is over.  All locks are taken within fork() itself, where the GIL is held and no Python code runs
// (other libraries' fork handlers are Python code, and may hand the GIL to a thread that waits for one of these locks),
// so that the child finds everything in order; it starts threads of its own when it needs them.  A thread that holds
// one of the locks does not need the GIL to give it back.
thread_local std::vector<StreamRef> closed_streams;  // by the fork that this thread is in

void before_fork() {
    for (;;) {
        auto streams = all_streams();
        bool quiet = true;
        for (auto& stream : streams) {
            const bool known = std::find(closed_streams.begin(), closed_streams.end(), stream) != closed_streams.end();
            if (!known) {
                stream->close();
                closed_streams.push_back(stream);
            }
            quiet &= known && stream->idle();
        }
        if (quiet) return;
        nb::gil_scoped_release release;
        for (auto& stream : streams) stream->drain();
    }
}

void lock_for_fork() {
    if (closed_streams.empty()) return;  // a fork that runs another program
    for (auto& stream : closed_streams) stream->lock();
    ThreadPool::instance().busy.lock();
    MemoryPool::instance().mutex.lock();
}

void unlock_pools() {
    MemoryPool::instance().mutex.unlock();
    ThreadPool::instance().busy.unlock();
}

void unlock_in_parent() {
    if (closed_streams.empty()) return;
    unlock_pools();
    for (auto& stream : closed_streams) stream->unlock();
}

void unlock_in_child() {
    if (closed_streams.empty()) return;
    unlock_pools();
    ThreadPool::after_fork();
    for (auto& stream : closed_streams) stream->make_anew();
    closed_streams.clear();
}

void after_fork_parent() {
    for (auto& stream : closed_streams) stream->open();
    closed_streams.clear();
}

void shutdown() {
    auto streams = all_streams();
    nb::gil_scoped_release release;
    for (auto& stream : streams) stream->stop();
    std::lock_guard<std::mutex> lock(ThreadPool::instance().busy);
    ThreadPool::instance().stop();
}

}  // namespace

void bind_stream(nb::module_& m) {
    nb::class_<Event>(m, "Event", "When a piece of work is finished.")
        .def("is_ready", &Event::ready)
        .def(
            "wait",
            [](const EventRef& self) {
                {
                    nb::gil_scoped_release release;
                    self->wait();
                }
                self->check();
            },
            "Wait until the work is finished; raise its error.");
    nb::class_<Stream>(
        m, "Stream", nb::is_weak_referenceable(),
        "A queue of work that runs in order on a thread of its own, beside Python and other streams.  `with stream:`\n"
        "sends what this thread runs there.")
        .def_static(
            "make",
            [](const std::string& name) {
                StreamRef stream = make_stream(name);
                // The last owner may be Python, which holds the GIL that queued work may need, or work on a stream,
                // which what is queued here may wait for: then another thread waits for the end.
                return StreamRef(stream.get(), [stream](Stream*) mutable {
                    if (on_a_stream()) {
                        std::thread([stream = std::move(stream)]() mutable { stream.reset(); }).detach();
                    } else if (PyGILState_Check()) {
                        nb::gil_scoped_release release;
                        stream.reset();
                    } else {
                        stream.reset();
                    }
                });
            },
            nb::arg("name") = "stream")
        .def(
            "submit",
            [](Stream& self, nb::object function, const std::string& name) {
                auto event = std::make_shared<Event>();
                auto work = python_work(name, std::move(function));
                nb::gil_scoped_release release;
                self.submit(name, std::move(work), {}, event);
                return event;
            },
            nb::arg("function"), nb::arg("name") = "a function",
            "Run `function()` after everything submitted before; returns its Event.")
        .def("is_idle", &Stream::idle)
        .def("synchronize", &Stream::synchronize, nb::call_guard<nb::gil_scoped_release>(),
             "Wait for everything submitted; raise the first error that nobody has seen.")
        .def_ro("name", &Stream::name)
        .def("__enter__",
             [](const StreamRef& self) {
                 stream_stack().push_back(current_stream());
                 set_current_stream(self);
                 return self;
             })
        .def("__exit__", [](const StreamRef&, nb::args) {
            set_current_stream(stream_stack().back());
            stream_stack().pop_back();
        });
    m.def("default_stream", default_stream);
    m.def("current_stream", current_stream);
    m.def("synchronize", synchronize, "Wait for all streams; raise the first error that nobody has seen.");
    m.def("before_fork", before_fork);
    m.def("after_fork_parent", after_fork_parent);
    m.def("shutdown", shutdown);
    pthread_atfork(lock_for_fork, unlock_in_parent, unlock_in_child);
}

}  // namespace jtc

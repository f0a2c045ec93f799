// The extension module jtc.runtime._native.
#include "executable.h"
#include "python.h"
#include "threads.h"

namespace jtc {
namespace {

void raise_input_error(const InputError& error) {
    try {
        nb::object type = nb::module_::import_("jtc.dialects.errors").attr("InputError");
        nb::object hint = error.hint.empty() ? nb::none() : nb::object(nb::str(error.hint.c_str()));
        nb::object value = type(error.what(), nb::none(), hint);
        PyErr_SetObject(type.ptr(), value.ptr());
    } catch (nb::python_error& failure) {
        failure.restore();
    }
}

nb::dict memory_statistics() {
    const MemoryStatistics s = MemoryPool::instance().statistics();
    nb::dict result;
    result["live"] = s.live;
    result["cached"] = s.cached;
    result["peak"] = s.peak;
    result["blocks"] = s.blocks;
    result["hits"] = s.hits;
    result["misses"] = s.misses;
    return result;
}

void configure(const std::string& name, nb::object value) {
    if (name == "threads") {
        const int count = nb::cast<int>(value);
        nb::gil_scoped_release release;
        ThreadPool::instance().set_threads(count);
    } else if (name == "spin_us") {
        spin_us = nb::cast<int64_t>(value);
    } else if (name == "pool_limit") {
        MemoryPool::instance().set_limit(nb::cast<size_t>(value));
    } else if (name == "async_") {
        settings.async = PyUnicode_Check(value.ptr()) ? Async::automatic
                         : nb::cast<bool>(value)      ? Async::always
                                                      : Async::never;
    } else {
        throw nb::value_error(("the runtime has no knob " + name).c_str());
    }
}

}  // namespace

void set_python_error(std::exception_ptr error) {
    try {
        std::rethrow_exception(error);
    } catch (const InputError& input) {
        raise_input_error(input);
    } catch (const std::bad_alloc& full) {
        PyErr_SetString(PyExc_MemoryError, full.what());
    } catch (nb::builtin_exception& builtin) {
        PyErr_SetString(builtin.type() == nb::exception_type::type_error ? PyExc_TypeError : PyExc_ValueError,
                        builtin.what());
    } catch (const std::exception& other) {
        PyErr_SetString(PyExc_RuntimeError, other.what());
    }
}

}  // namespace jtc

NB_MODULE(_native, m) {
    using namespace jtc;
    nb::register_exception_translator([](const std::exception_ptr& error, void*) {
        try {
            std::rethrow_exception(error);
        } catch (const InputError&) {
            set_python_error(error);
        } catch (const OutOfMemory&) {
            set_python_error(error);
        }
    });
    m.doc() = "The native runtime: memory pool, threads, streams, executables, the call path of jitted functions.";
    bind_buffer(m);
    bind_stream(m);
    bind_executable(m);
    bind_dispatcher(m);
    m.def("configure", configure, nb::arg("name"), nb::arg("value"),
          "Set a knob of the runtime: threads, spin_us, pool_limit or async_.");
    m.def("memory_statistics", memory_statistics,
          "Bytes live, cached and peak, blocks in use, allocations served from kept blocks (hits) and from the system "
          "(misses).");
    m.def(
        "trim", [](size_t keep) { MemoryPool::instance().trim(keep); }, nb::arg("keep") = 0,
        "Give kept memory back to the system, down to `keep` bytes.");
    m.def("reset_peak", [] { MemoryPool::instance().reset_peak(); });
    m.def("threads", [] { return ThreadPool::instance().threads(); });
}

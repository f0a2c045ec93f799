// What the binding files share.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "buffer.h"

namespace nb = nanobind;

namespace jtc {

// The type of an object with the buffer protocol, or null where its element type is not ours or its bytes are swapped.
const TensorType* type_of_view(const Py_buffer& view);
// Wait for the work that writes the buffer, without the GIL; rethrow its error.
void wait(const Buffer& buffer);
// The exported memory of a Python object, borrowed until the storage goes.  Takes over `view`.
StorageRef borrow(Py_buffer&& view);

// Set the Python error for a C++ exception of ours.
void set_python_error(std::exception_ptr error);

void bind_buffer(nb::module_& m);
void bind_stream(nb::module_& m);
void bind_executable(nb::module_& m);
void bind_dispatcher(nb::module_& m);

}  // namespace jtc

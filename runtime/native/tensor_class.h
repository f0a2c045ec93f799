// Tensors as the front end defines them.
#pragma once
#include <utility>

#include "python.h"

namespace jtc {

// The class of tensors, whose slots are read and written where they lie in an object.
class TensorClass {
public:
    explicit TensorClass(nb::object type);

    bool has(PyObject* object) {
        if (is_exactly(object) || Py_TYPE(object) == reinterpret_cast<PyTypeObject*>(subclass.ptr())) return true;
        if (!PyObject_TypeCheck(object, type())) return false;
        subclass = nb::borrow(reinterpret_cast<PyObject*>(Py_TYPE(object)));
        return true;
    }
    bool is_exactly(PyObject* object) const { return Py_TYPE(object) == type(); }
    // What a tensor holds in `_buffer`; borrowed, null where there is nothing.
    PyObject* attribute(PyObject* tensor) const { return *slot(tensor, buffer_); }
    // The Buffer that such an attribute is, or null.
    const Buffer* buffer(PyObject* attribute) const {
        return attribute && Py_TYPE(attribute) == buffer_type_ ? nb::inst_ptr<Buffer>(attribute) : nullptr;
    }
    // Let a tensor stand for a value, with a Buffer of its own unless its present one is that.
    void store(PyObject* tensor, const Buffer& value) const;
    nb::object make(Buffer value) const;

    nb::object object, subclass;  // subclass: the last one seen, such as that of parameters

private:
    PyTypeObject* type() const { return reinterpret_cast<PyTypeObject*>(object.ptr()); }
    static PyObject** slot(PyObject* tensor, Py_ssize_t offset) {
        return reinterpret_cast<PyObject**>(reinterpret_cast<char*>(tensor) + offset);
    }
    static void set(PyObject* tensor, Py_ssize_t offset, PyObject* value) {  // takes over `value`
        PyObject* old = std::exchange(*slot(tensor, offset), value);
        Py_XDECREF(old);
    }

    PyTypeObject* buffer_type_ = reinterpret_cast<PyTypeObject*>(nb::type<Buffer>().ptr());
    Py_ssize_t buffer_ = 0, node_ = 0;
    std::vector<Py_ssize_t> slots_;
};

}  // namespace jtc

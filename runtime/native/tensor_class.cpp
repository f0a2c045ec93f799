#include "tensor_class.h"

#include <structmember.h>

#include <cstring>

namespace jtc {

TensorClass::TensorClass(nb::object type) : object(std::move(type)) {
    if (!PyType_Check(object.ptr())) throw nb::type_error("tensor_type is not a class");
    for (nb::handle name : nb::getattr(object, "__slots__", nb::make_tuple())) {
        nb::object descriptor = nb::getattr(object, name, nb::none());  // none for "__weakref__"
        if (Py_TYPE(descriptor.ptr()) != &PyMemberDescr_Type) continue;
        const PyMemberDef* member = reinterpret_cast<PyMemberDescrObject*>(descriptor.ptr())->d_member;
        if (!std::strcmp(member->name, "_buffer")) buffer_ = member->offset;
        if (!std::strcmp(member->name, "_node")) node_ = member->offset;
        slots_.push_back(member->offset);
    }
    if (!buffer_ || !node_) throw nb::type_error("tensor_type has no slots _buffer and _node");
}

void TensorClass::store(PyObject* tensor, const Buffer& value) const {
    const Buffer* present = buffer(attribute(tensor));
    if (!present || present->type != value.type || present->storage != value.storage)
        set(tensor, buffer_, nb::cast(value).release().ptr());
    if (*slot(tensor, node_) != Py_None) set(tensor, node_, Py_NewRef(Py_None));
}

nb::object TensorClass::make(Buffer value) const {
    nb::object held = nb::cast(std::move(value)), tensor = nb::steal(type()->tp_alloc(type(), 0));
    if (!tensor.is_valid()) throw nb::python_error();
    for (Py_ssize_t offset : slots_) set(tensor.ptr(), offset, Py_NewRef(Py_None));
    set(tensor.ptr(), buffer_, held.release().ptr());
    return tensor;
}

}  // namespace jtc

// The fast path of a jitted function: from a call with tensors to the executable for their types, without Python code.
#include <cstring>

#include "executable.h"
#include "python.h"

namespace jtc {
namespace {

struct Argument {
    enum How { tensor, value, identity } how;
    const TensorType* type;  // of a tensor or array
    nb::object object;       // to compare with otherwise
};

struct Signature {
    std::vector<Argument> arguments;
    std::shared_ptr<Executable> executable;
    std::vector<nb::object> captured;
    nb::object wrap;
};

class Dispatcher {
public:
    Dispatcher(nb::object slow, nb::object tensor_type, nb::object make, std::vector<nb::object> bypass)
        : slow(std::move(slow)), tensor_type(std::move(tensor_type)), make(std::move(make)), bypass(std::move(bypass)) {
        for (const nb::object& variable : this->bypass)
            if (!PyContextVar_CheckExact(variable.ptr())) throw nb::type_error("bypass takes context variables");
    }

    void add(nb::sequence arguments, std::shared_ptr<Executable> executable, std::vector<nb::object> captured,
             nb::object wrap);
    PyObject* call(PyObject* args, PyObject* kwargs);

    nb::object slow, tensor_type, make;
    std::vector<nb::object> bypass;
    std::vector<std::shared_ptr<Signature>> signatures;  // the last one that matched comes first

private:
    bool bypassed() const;
    bool matches(const Signature& signature, PyObject* args, const std::vector<Buffer>& buffers) const;
    PyObject* run(const Signature& signature, std::vector<Buffer>& buffers) const;
};

PyTypeObject* buffer_type = nullptr;
PyTypeObject* array_type = nullptr;
PyObject* buffer_name = nullptr;

// The Buffer in a tensor's `_buffer`, or an empty one.
Buffer buffer_of(PyObject* tensor) {
    nb::object attribute = nb::steal(PyObject_GetAttr(tensor, buffer_name));
    if (!attribute.is_valid()) {
        PyErr_Clear();
        return {};
    }
    return Py_TYPE(attribute.ptr()) == buffer_type ? *nb::inst_ptr<Buffer>(attribute) : Buffer{};
}

// A row-major array's memory, or an empty Buffer.
Buffer view_array(PyObject* array) {
    Py_buffer view;
    if (PyObject_GetBuffer(array, &view, PyBUF_RECORDS_RO)) {
        PyErr_Clear();
        return {};
    }
    const TensorType* type = PyBuffer_IsContiguous(&view, 'C') ? type_of_view(view) : nullptr;
    if (!type || reinterpret_cast<uintptr_t>(view.buf) % info(type->dtype).bytes) {
        PyBuffer_Release(&view);
        return {};
    }
    return Buffer{type, borrow(std::move(view))};
}

bool same_value(PyObject* a, PyObject* b) {
    if (a == b) return true;
    if (Py_TYPE(a) != Py_TYPE(b)) return false;
    if (PyFloat_CheckExact(a)) {  // 0.0 and -0.0 are different constants
        const double x = PyFloat_AS_DOUBLE(a), y = PyFloat_AS_DOUBLE(b);
        return std::memcmp(&x, &y, sizeof x) == 0;
    }
    if (!PyLong_CheckExact(a) && !PyUnicode_CheckExact(a)) return false;
    return PyObject_RichCompareBool(a, b, Py_EQ) == 1;
}

void Dispatcher::add(nb::sequence arguments, std::shared_ptr<Executable> executable, std::vector<nb::object> captured,
                     nb::object wrap) {
    auto signature = std::make_shared<Signature>();
    size_t tensors = captured.size();
    for (nb::handle entry : arguments) {
        const auto kind = nb::cast<std::string>(entry[0]);
        if (kind == "tensor") {
            const size_t number = tensors++ - captured.size();
            if (number >= executable->inputs.size()) break;
            signature->arguments.push_back(
                {Argument::tensor, executable->buffers[size_t(executable->inputs[number])].type, {}});
        } else if (kind == "value" || kind == "identity") {
            signature->arguments.push_back(
                {kind == "value" ? Argument::value : Argument::identity, nullptr, nb::object(entry[1])});
        } else {
            throw nb::value_error(("unknown kind of argument: " + kind).c_str());
        }
    }
    if (tensors != executable->inputs.size())
        throw InputError(executable->name + " takes " + std::to_string(executable->inputs.size()) +
                         " inputs, the signature has " + std::to_string(tensors));
    signature->executable = std::move(executable);
    signature->captured = std::move(captured);
    signature->wrap = std::move(wrap);
    signatures.insert(signatures.begin(), std::move(signature));
}

bool Dispatcher::bypassed() const {
    for (const nb::object& variable : bypass) {
        PyObject* value = nullptr;
        if (PyContextVar_Get(variable.ptr(), nullptr, &value)) throw nb::python_error();
        if (!value) continue;
        const bool set = value != Py_None;
        Py_DECREF(value);
        if (set) return true;
    }
    return false;
}

bool Dispatcher::matches(const Signature& signature, PyObject* args, const std::vector<Buffer>& buffers) const {
    if (signature.arguments.size() != buffers.size()) return false;
    for (size_t i = 0; i < buffers.size(); i++) {
        const Argument& argument = signature.arguments[i];
        PyObject* given = PyTuple_GET_ITEM(args, Py_ssize_t(i));
        if (argument.how == Argument::tensor  ? argument.type != buffers[i].type
            : argument.how == Argument::value ? !same_value(argument.object.ptr(), given)
                                              : argument.object.ptr() != given)
            return false;
    }
    return true;
}

PyObject* Dispatcher::call(PyObject* args, PyObject* kwargs) {
    const bool plain = (!kwargs || PyDict_GET_SIZE(kwargs) == 0) && !signatures.empty() && !bypassed();
    if (plain) {
        const size_t count = size_t(PyTuple_GET_SIZE(args));
        std::vector<Buffer> buffers(count);  // empty for arguments that are neither tensors nor arrays
        for (size_t i = 0; i < count; i++) {
            PyObject* given = PyTuple_GET_ITEM(args, Py_ssize_t(i));
            if (reinterpret_cast<PyObject*>(Py_TYPE(given)) == tensor_type.ptr()) {
                buffers[i] = buffer_of(given);
            } else if (Py_TYPE(given) == array_type) {
                buffers[i] = view_array(given);
            }
        }
        for (size_t k = 0; k < signatures.size(); k++) {
            if (!matches(*signatures[k], args, buffers)) continue;
            std::shared_ptr<Signature> signature = signatures[k];
            if (k) {
                signatures.erase(signatures.begin() + std::ptrdiff_t(k));
                signatures.insert(signatures.begin(), signature);
            }
            PyObject* result = run(*signature, buffers);
            if (result) return result;
            break;
        }
    }
    nb::object keywords = kwargs ? nb::borrow(kwargs) : nb::object(nb::dict());
    return slow(nb::handle(args), keywords).release().ptr();
}

// Null where a captured tensor has no value of the right type: the slow path finds out what that means.
PyObject* Dispatcher::run(const Signature& signature, std::vector<Buffer>& buffers) const {
    size_t count = 0;
    for (size_t i = 0; i < buffers.size(); i++)
        if (signature.arguments[i].how == Argument::tensor) {
            if (count != i) buffers[count] = std::move(buffers[i]);
            count++;
        }
    buffers.resize(count);
    const Executable& executable = *signature.executable;
    for (const nb::object& tensor : signature.captured) {
        buffers.push_back(buffer_of(tensor.ptr()));
        if (buffers.back().type != executable.buffers[size_t(executable.inputs[count])].type) return nullptr;
        count++;
    }
    std::vector<Buffer> results = executable.run(buffers.data(), count);
    buffers.clear();
    nb::object tensors = nb::steal(PyTuple_New(Py_ssize_t(results.size())));
    for (size_t i = 0; i < results.size(); i++) {
        nb::object result = nb::cast(std::move(results[i]));
        PyObject* argument = result.ptr();
        PyObject* made = PyObject_Vectorcall(make.ptr(), &argument, 1, nullptr);
        if (!made) throw nb::python_error();
        if (signature.wrap.is_none() && results.size() == 1) return made;
        PyTuple_SET_ITEM(tensors.ptr(), Py_ssize_t(i), made);
    }
    if (!signature.wrap.is_none()) return signature.wrap(tensors).release().ptr();
    return tensors.release().ptr();
}

PyObject* call(PyObject* self, PyObject* args, PyObject* kwargs) noexcept {
    try {
        return nb::inst_ptr<Dispatcher>(self)->call(args, kwargs);
    } catch (nb::python_error& error) {
        error.restore();
    } catch (const std::exception&) {
        set_python_error(std::current_exception());
    }
    return nullptr;
}

PyObject* bind_method(PyObject* self, PyObject* object, PyObject*) noexcept {
    return object && object != Py_None ? PyMethod_New(self, object) : Py_NewRef(self);
}

template <typename Visit>
int each_object(Dispatcher& self, Visit visit) {
    for (nb::object* object : {&self.slow, &self.tensor_type, &self.make})
        if (int result = visit(*object)) return result;
    for (nb::object& object : self.bypass)
        if (int result = visit(object)) return result;
    for (auto& signature : self.signatures) {
        for (Argument& argument : signature->arguments)
            if (int result = visit(argument.object)) return result;
        for (nb::object& object : signature->captured)
            if (int result = visit(object)) return result;
        if (int result = visit(signature->wrap)) return result;
    }
    return 0;
}

int traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    if (!nb::inst_ready(self)) return 0;
    return each_object(*nb::inst_ptr<Dispatcher>(self), [&](nb::object& object) {
        Py_VISIT(object.ptr());
        return 0;
    });
}

int clear(PyObject* self) {
    Dispatcher& dispatcher = *nb::inst_ptr<Dispatcher>(self);
    auto signatures = std::move(dispatcher.signatures);
    dispatcher.signatures.clear();
    dispatcher.slow.reset();
    dispatcher.make.reset();
    dispatcher.tensor_type.reset();
    dispatcher.bypass.clear();
    return 0;
}

PyType_Slot slots[] = {
    {Py_tp_call, reinterpret_cast<void*>(call)},
    {Py_tp_descr_get, reinterpret_cast<void*>(bind_method)},
    {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
    {Py_tp_clear, reinterpret_cast<void*>(clear)},
    {0, nullptr},
};

const char* doc =
    "The callable behind `@jtc.jit`: dispatcher(*args) runs the executable registered for the arguments' types.\n\n"
    "slow         slow(args, kwargs) -> result: taken for keyword arguments, containers, pending tensors, unknown "
    "signatures,\n"
    "             and while one of the context variables in `bypass` holds something else than None.  It may call "
    "`add`.\n"
    "tensor_type  class whose attribute `_buffer` holds a Buffer (anything else there: the slow path)\n"
    "make         make(buffer) -> tensor, for results\n\n"
    "Tensors and row-major NumPy arrays are taken; an array's memory is read in place.  Where several signatures fit, "
    "the\n"
    "one added last wins.  A Python subclass may add attributes; used in a class body it binds like a function.";

}  // namespace

void bind_dispatcher(nb::module_& m) {
    buffer_type = reinterpret_cast<PyTypeObject*>(nb::type<Buffer>().ptr());
    array_type =
        reinterpret_cast<PyTypeObject*>(nb::object(nb::module_::import_("numpy").attr("ndarray")).release().ptr());
    buffer_name = PyUnicode_InternFromString("_buffer");
    nb::class_<Dispatcher>(m, "Dispatcher", nb::type_slots(slots), nb::is_weak_referenceable(), doc)
        .def(nb::init<nb::object, nb::object, nb::object, std::vector<nb::object>>(), nb::arg("slow"),
             nb::arg("tensor_type"), nb::arg("make"), nb::arg("bypass") = std::vector<nb::object>())
        .def("add", &Dispatcher::add, nb::arg("arguments"), nb::arg("executable"),
             nb::arg("captured") = std::vector<nb::object>(), nb::arg("wrap") = nb::none(),
             "Register an executable for calls whose positional arguments fit `arguments`, a sequence with one of\n"
             "(\"tensor\",), (\"value\", v) (same type and equal: int, bool, float, str, None), (\"identity\", object) "
             "for each.\n"
             "The executable's inputs are the tensor arguments in order, then the values of the tensors in `captured`, "
             "read\n"
             "anew in every call.  Outputs go through `make`; `wrap(tuple of them)` is the result; None: the only one, "
             "or the tuple.")
        .def(
            "clear",
            [](Dispatcher& self) {
                auto old = std::move(self.signatures);
                self.signatures.clear();
            },
            "Forget all signatures.")
        .def("__len__", [](const Dispatcher& self) { return self.signatures.size(); });
}

}  // namespace jtc

// The fast path of a jitted function: from a call with tensors to the executable for their types, without Python code.
#include <cstring>

#include "captured.h"
#include "executable.h"
#include "python.h"
#include "tensor_class.h"

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
    CapturedTensors captured;
    std::vector<std::pair<size_t, size_t>> writes;  // (number of a captured tensor, of the output it gets)
    // For each update of the executable the captured tensor whose next value may lie in its memory, or -1.
    std::vector<std::ptrdiff_t> replaced;
    nb::object held, current;                       // lists of one item each, or nothing
    size_t results;                                 // outputs that the caller sees
    nb::object wrap;

    // Note of whom the executable lets the next value take the memory.
    void find_replaced();

    bool blocked() const {  // by its guard
        return held.is_valid() && PyList_GET_ITEM(held.ptr(), 0) != PyList_GET_ITEM(current.ptr(), 0);
    }
};

// What an argument is, if it is a tensor or an array; else all is null.
struct Given {
    const Buffer* buffer = nullptr;
    nb::object attribute;  // what a tensor's `_buffer` is
    Buffer array;          // an array's memory

    const TensorType* type() const { return buffer ? buffer->type : nullptr; }
};

class Dispatcher {
public:
    Dispatcher(nb::object slow, nb::object tensor_type, std::vector<nb::object> bypass)
        : slow(std::move(slow)), tensors(std::move(tensor_type)), bypass(std::move(bypass)) {
        for (const nb::object& variable : this->bypass)
            if (!PyContextVar_CheckExact(variable.ptr())) throw nb::type_error("bypass takes context variables");
    }

    void add(nb::sequence arguments, std::shared_ptr<Executable> executable, nb::sequence captured, nb::object wrap,
             std::vector<std::pair<size_t, size_t>> writes, nb::object guard, nb::object results,
             std::vector<std::pair<size_t, nb::object>> aliases);
    void replace(const std::shared_ptr<Executable>& old, const std::shared_ptr<Executable>& made);
    PyObject* call(PyObject* args, PyObject* kwargs);

    nb::object slow;
    TensorClass tensors;
    std::vector<nb::object> bypass;
    std::vector<std::shared_ptr<Signature>> signatures;  // the last one that matched comes first

private:
    bool bypassed() const;
    std::vector<Given> take(PyObject* args) const;
    bool matches(const Signature& signature, PyObject* args, const std::vector<Given>& given) const;
    PyObject* run(Signature& signature, const std::vector<Given>& given);
};

PyTypeObject* array_type = nullptr;

// Whether only one tensor, and one more reference to its `_buffer`, hold the memory: no second tensor, no array or
// capsule made of it, no program that is still to run.
bool is_only_holder(PyObject* attribute, const Buffer& buffer) {
    return Py_REFCNT(attribute) == 2 && buffer.storage.use_count() == 1 && buffer.storage->capacity &&
           !buffer.storage->borrowed;
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

void Signature::find_replaced() {
    const size_t given = executable->inputs.size() - captured.size();
    replaced.assign(executable->updates.size(), -1);
    for (size_t k = 0; k < replaced.size(); k++)
        for (const auto& [target, output] : writes)
            if (executable->updates[k] == std::pair(output, given + target)) replaced[k] = std::ptrdiff_t(target);
}

void Dispatcher::add(nb::sequence arguments, std::shared_ptr<Executable> executable, nb::sequence captured,
                     nb::object wrap, std::vector<std::pair<size_t, size_t>> writes, nb::object guard,
                     nb::object results, std::vector<std::pair<size_t, nb::object>> aliases) {
    auto signature = std::make_shared<Signature>();
    for (nb::handle entry : captured) signature->captured.add(entry);
    for (const auto& [number, entry] : aliases) signature->captured.add_alias(number, entry);
    signature->captured.distinct = !writes.empty();  // else what one stands for would change with the other
    for (const auto& [target, output] : writes)
        if (target >= signature->captured.size() || output >= executable->outputs.size())
            throw nb::value_error("a write names a captured tensor or an output that is not there");
    signature->writes = std::move(writes);
    signature->results = results.is_none() ? executable->outputs.size() : nb::cast<size_t>(results);
    if (signature->results > executable->outputs.size()) throw nb::value_error("more results than outputs");
    if (!guard.is_none()) {
        std::tie(signature->held, signature->current) = nb::cast<std::pair<nb::object, nb::object>>(guard);
        for (const nb::object& list : {signature->held, signature->current})
            if (!PyList_CheckExact(list.ptr()) || PyList_GET_SIZE(list.ptr()) != 1)
                throw nb::type_error("a guard is two lists of one item each");
    }
    size_t tensors = signature->captured.size();
    for (nb::handle entry : arguments) {
        const auto kind = nb::cast<std::string>(entry[0]);
        if (kind == "tensor") {
            const size_t number = tensors++ - signature->captured.size();
            if (number >= executable->inputs.size()) break;
            signature->arguments.push_back(
                {Argument::tensor, executable->input_types[number], {}});
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
    signature->find_replaced();
    signature->wrap = std::move(wrap);
    signatures.insert(signatures.begin(), std::move(signature));
}

// Calls under way keep the signature that they have found.
void Dispatcher::replace(const std::shared_ptr<Executable>& old, const std::shared_ptr<Executable>& made) {
    const auto types = [](const Executable& e, const std::vector<int>& numbers) {
        std::vector<const TensorType*> found;
        for (int i : numbers) found.push_back(e.buffers[size_t(i)].type);
        return found;
    };
    if (types(*old, old->inputs) != types(*made, made->inputs) ||
        types(*old, old->outputs) != types(*made, made->outputs))
        throw InputError(made->name + " takes or gives other types than " + old->name);
    for (auto& signature : signatures)
        if (signature->executable == old) {
            auto changed = std::make_shared<Signature>(*signature);
            changed->executable = made;
            changed->find_replaced();
            signature = std::move(changed);
        }
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

std::vector<Given> Dispatcher::take(PyObject* args) const {
    std::vector<Given> taken(size_t(PyTuple_GET_SIZE(args)));
    for (size_t i = 0; i < taken.size(); i++) {
        PyObject* argument = PyTuple_GET_ITEM(args, Py_ssize_t(i));
        Given& given = taken[i];
        if (tensors.is_exactly(argument)) {
            given.attribute = nb::borrow(tensors.attribute(argument));
            given.buffer = tensors.buffer(given.attribute.ptr());
        } else if (Py_TYPE(argument) == array_type) {
            given.array = view_array(argument);
            if (given.array.type) given.buffer = &given.array;
        }
    }
    return taken;
}

bool Dispatcher::matches(const Signature& signature, PyObject* args, const std::vector<Given>& given) const {
    if (signature.arguments.size() != given.size() || signature.blocked()) return false;
    for (size_t i = 0; i < given.size(); i++) {
        const Argument& argument = signature.arguments[i];
        PyObject* object = PyTuple_GET_ITEM(args, Py_ssize_t(i));
        if (argument.how == Argument::tensor  ? argument.type != given[i].type()
            : argument.how == Argument::value ? !same_value(argument.object.ptr(), object)
                                              : argument.object.ptr() != object)
            return false;
    }
    return true;
}

PyObject* Dispatcher::call(PyObject* args, PyObject* kwargs) {
    const bool plain = (!kwargs || PyDict_GET_SIZE(kwargs) == 0) && !signatures.empty() && !bypassed();
    if (plain) {
        const std::vector<Given> given = take(args);
        for (size_t k = 0; k < signatures.size(); k++) {
            if (!matches(*signatures[k], args, given)) continue;
            std::shared_ptr<Signature> signature = signatures[k];
            if (k) {
                signatures.erase(signatures.begin() + std::ptrdiff_t(k));
                signatures.insert(signatures.begin(), signature);
            }
            if (PyObject* result = run(*signature, given)) return result;
        }
    }
    nb::object keywords = kwargs ? nb::borrow(kwargs) : nb::object(nb::dict());
    return slow(nb::handle(args), keywords).release().ptr();
}

// Null where a captured tensor has no value of the right type, or is not where it was: another signature may fit, or
// the slow path finds out what that means.
PyObject* Dispatcher::run(Signature& signature, const std::vector<Given>& given) {
    const Executable& executable = *signature.executable;
    std::vector<const Buffer*> inputs;
    inputs.reserve(executable.inputs.size());
    // Captured tensors and their Buffers, which other threads, or code that runs as objects go, may replace meanwhile.
    const bool hold = !signature.writes.empty() || !executable.tiny();
    std::vector<nb::object> held;
    if (hold) held.reserve(executable.inputs.size() + signature.writes.size());
    if (!signature.captured.find(held)) return nullptr;
    for (size_t i = 0; i < given.size(); i++)
        if (signature.arguments[i].how == Argument::tensor) inputs.push_back(given[i].buffer);
    const size_t arguments = inputs.size();
    const std::vector<PyObject*>& found = signature.captured.found();
    for (PyObject* tensor : found) {
        PyObject* attribute = tensors.has(tensor) ? tensors.attribute(tensor) : nullptr;
        const Buffer* buffer = tensors.buffer(attribute);
        if (!buffer || buffer->type != executable.input_types[inputs.size()]) return nullptr;
        inputs.push_back(buffer);
        if (hold) held.push_back(nb::borrow(attribute));
    }
    std::vector<Buffer> results;
    if (signature.writes.empty()) {
        results = executable.run(inputs.data(), inputs.size());
    } else {
        const size_t first = held.size();
        for (const auto& [target, output] : signature.writes) held.push_back(nb::borrow(found[target]));
        Replaced replaced{std::vector<char>(executable.updates.size()), [&](const std::vector<Buffer>& made) {
                              for (size_t k = 0; k < signature.writes.size(); k++)
                                  tensors.store(held[first + k].ptr(), made[signature.writes[k].second]);
                          }};
        for (size_t k = 0; k < signature.replaced.size(); k++)
            if (const std::ptrdiff_t target = signature.replaced[k]; target >= 0)
                replaced.ours[k] = is_only_holder(tensors.attribute(found[size_t(target)]),
                                                  *inputs[arguments + size_t(target)]);
        results = executable.run(inputs.data(), inputs.size(), &replaced);
    }
    held.clear();
    results.resize(signature.results);
    if (signature.wrap.is_none() && results.size() == 1) return tensors.make(std::move(results[0])).release().ptr();
    nb::object made = nb::steal(PyTuple_New(Py_ssize_t(results.size())));
    for (size_t i = 0; i < results.size(); i++)
        PyTuple_SET_ITEM(made.ptr(), Py_ssize_t(i), tensors.make(std::move(results[i])).release().ptr());
    if (!signature.wrap.is_none()) return signature.wrap(made).release().ptr();
    return made.release().ptr();
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
    for (nb::object* object : {&self.slow, &self.tensors.object, &self.tensors.subclass})
        if (int result = visit(*object)) return result;
    for (nb::object& object : self.bypass)
        if (int result = visit(object)) return result;
    for (auto& signature : self.signatures) {
        for (Argument& argument : signature->arguments)
            if (int result = visit(argument.object)) return result;
        if (int result = signature->captured.each_object(visit)) return result;
        for (nb::object* object : {&signature->wrap, &signature->held, &signature->current})
            if (int result = visit(*object)) return result;
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
    dispatcher.tensors.object.reset();
    dispatcher.tensors.subclass.reset();
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
    "tensor_type  class with a slot `_buffer` that holds a Buffer (anything else there: the slow path), and a slot "
    "`_node`;\n"
    "             results are new objects of it, with None in its other slots\n\n"
    "Tensors and row-major NumPy arrays are taken; an array's memory is read in place.  Where several signatures fit, "
    "the\n"
    "one added last wins.  A Python subclass may add attributes; used in a class body it binds like a function.";

}  // namespace

void bind_dispatcher(nb::module_& m) {
    array_type =
        reinterpret_cast<PyTypeObject*>(nb::object(nb::module_::import_("numpy").attr("ndarray")).release().ptr());
    nb::class_<Dispatcher>(m, "Dispatcher", nb::type_slots(slots), nb::is_weak_referenceable(), doc)
        .def(nb::init<nb::object, nb::object, std::vector<nb::object>>(), nb::arg("slow"), nb::arg("tensor_type"),
             nb::arg("bypass") = std::vector<nb::object>())
        .def("add", &Dispatcher::add, nb::arg("arguments"), nb::arg("executable"),
             nb::arg("captured") = nb::tuple(), nb::arg("wrap") = nb::none(),
             nb::arg("writes") = std::vector<std::pair<size_t, size_t>>(), nb::arg("guard") = nb::none(),
             nb::arg("results") = nb::none(), nb::arg("aliases") = std::vector<std::pair<size_t, nb::object>>(),
             "Register an executable for calls whose positional arguments fit `arguments`, a sequence with one of\n"
             "(\"tensor\",), (\"value\", v) (same type and equal: int, bool, float, str, None), (\"identity\", object) "
             "for each.\n"
             "The executable's inputs are the tensor arguments in order, then the values of the tensors in `captured`, "
             "read\n"
             "anew in every call: tensors, or places (\"cell\" | \"global\" | \"object\", holder, key, path), where "
             "path is\n"
             "((\"attr\" | \"item\", name), ...) and holder the cell, dict or object that it starts from.\n"
             "`wrap(tuple of the outputs as tensors)` is the result; None: the only one, or the tuple.\n"
             "writes   (number of a captured tensor, number of an output) pairs: the tensor's `_buffer` becomes the "
             "output, its `_node` None;\n"
             "         in the old one's memory where the plan allows that (`updates`) and nobody else holds it\n"
             "guard    two lists of one item; while their items are different objects the signature fits nothing\n"
             "results  how many of the outputs, from the first, are results (None: all)\n"
             "aliases  (number of a captured tensor, another place where it is) pairs: while it is not there, or, with "
             "writes,\n"
             "         two captured tensors are the same, the signature fits nothing")
        .def("replace", &Dispatcher::replace, nb::arg("old"), nb::arg("new"),
             "From the next call on, run `new` where `old` was run: a program with the same inputs and outputs.")
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

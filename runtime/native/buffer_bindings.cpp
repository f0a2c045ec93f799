// Buffer in Python: from and to NumPy, the buffer protocol and DLPack.
#include <cstring>

#include "python.h"

namespace jtc {

void fill(void* data, const TensorType& type, const void* element) {
    const size_t unit = info(type.dtype).bytes;
    if (!type.bytes) return;
    char* bytes = static_cast<char*>(data);
    std::memcpy(bytes, element, unit);
    for (size_t done = unit; done < type.bytes; done *= 2)
        std::memcpy(bytes + done, bytes, std::min(done, type.bytes - done));
}

void wait(const Buffer& buffer) {
    const EventRef& producer = buffer.storage->producer;
    if (!producer) return;
    if (!producer->ready()) {
        nb::gil_scoped_release release;
        producer->wait();
    }
    producer->check();
}

const TensorType* type_of_view(const Py_buffer& view) {
    const char* format = view.format ? view.format : "B";
    if (*format == '@' || *format == '=' || *format == '<') format++;
    if (!*format || format[1]) return nullptr;
    DType dtype;
    switch (*format) {
        case '?': dtype = DType::i1; break;
        case 'b': dtype = DType::i8; break;
        case 'h': dtype = DType::i16; break;
        case 'i': dtype = DType::i32; break;
        case 'l':
        case 'q':
        case 'n': dtype = view.itemsize == 8 ? DType::i64 : DType::i32; break;
        case 'B': dtype = DType::ui8; break;
        case 'H': dtype = DType::ui16; break;
        case 'I': dtype = DType::ui32; break;
        case 'L':
        case 'Q':
        case 'N': dtype = view.itemsize == 8 ? DType::ui64 : DType::ui32; break;
        case 'e': dtype = DType::f16; break;
        case 'f': dtype = DType::f32; break;
        case 'd': dtype = DType::f64; break;
        default: return nullptr;
    }
    if (view.itemsize != info(dtype).bytes) return nullptr;
    int64_t shape[64];
    for (int i = 0; i < view.ndim; i++) shape[i] = view.shape[i];
    return intern(dtype, shape, size_t(view.ndim));
}

StorageRef borrow(Py_buffer&& view) {
    auto storage = std::make_shared<Storage>();
    storage->data = view.buf;
    storage->borrowed = true;
    storage->owner = std::shared_ptr<void>(new Py_buffer(view), [](void* pointer) {
        auto* held = static_cast<Py_buffer*>(pointer);
        if (Py_IsInitialized()) {
            nb::gil_scoped_acquire acquire;
            PyBuffer_Release(held);
        }
        delete held;
    });
    return storage;
}

namespace {

nb::object numpy_dtype(DType dtype) {
    static PyObject* cache[16] = {};
    PyObject*& entry = cache[size_t(dtype)];
    if (!entry) {
        const char* name = info(dtype).numpy;
        nb::object numpy = nb::module_::import_("numpy");
        nb::object value =
            dtype == DType::bf16 ? nb::module_::import_("ml_dtypes").attr("bfloat16") : nb::object(nb::str(name));
        entry = numpy.attr("dtype")(value).release().ptr();
    }
    return nb::borrow(entry);
}

const TensorType* make_type(const std::string& dtype, const std::vector<int64_t>& shape) {
    return intern(dtype_of(dtype), shape.data(), shape.size());
}

Buffer from_numpy(nb::object array, bool copy) {
    Py_buffer view;
    bool brain = false;
    if (PyObject_GetBuffer(array.ptr(), &view, PyBUF_RECORDS_RO)) {
        PyErr_Clear();
        // ml_dtypes' bfloat16 has no buffer protocol: go through its bits.
        brain = nb::hasattr(array, "dtype") && array.attr("dtype").is(numpy_dtype(DType::bf16));
        if (brain) array = array.attr("view")("uint16");
        if (!brain || PyObject_GetBuffer(array.ptr(), &view, PyBUF_RECORDS_RO)) {
            PyErr_Clear();
            throw InputError("a " + std::string(Py_TYPE(array.ptr())->tp_name) + " is not an array of numbers");
        }
    }
    const TensorType* type = type_of_view(view);
    if (!type) {
        std::string format = view.format ? view.format : "";
        PyBuffer_Release(&view);
        throw InputError("arrays of format '" + format + "' are not supported",
                         "convert it, e.g. array.astype('float32')");
    }
    if (brain) type = intern(DType::bf16, type->shape.data(), type->shape.size());
    const bool contiguous = PyBuffer_IsContiguous(&view, 'C');
    if (!copy && contiguous && reinterpret_cast<uintptr_t>(view.buf) % info(type->dtype).bytes == 0)
        return Buffer{type, borrow(std::move(view))};
    Buffer result{type, nullptr};
    try {
        result.storage = allocate(type->bytes);
    } catch (...) {
        PyBuffer_Release(&view);
        throw;
    }
    int failed = 0;
    if (contiguous) {
        if (type->bytes >= 1 << 20) {
            nb::gil_scoped_release release;
            std::memcpy(result.data(), view.buf, type->bytes);
        } else {
            std::memcpy(result.data(), view.buf, type->bytes);
        }
    } else {
        failed = PyBuffer_ToContiguous(result.data(), &view, Py_ssize_t(type->bytes), 'C');
    }
    PyBuffer_Release(&view);
    if (failed) throw nb::python_error();
    return result;
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) noexcept {
    view->obj = nullptr;
    try {
        const Buffer& buffer = *nb::inst_ptr<Buffer>(self);
        wait(buffer);
        const TensorType& type = *buffer.type;
        if (flags & PyBUF_WRITABLE) {
            PyErr_SetString(PyExc_BufferError, "a jtc buffer is read-only");
            return -1;
        }
        const size_t rank = type.shape.size();
        auto* layout = new Py_ssize_t[2 * rank + 1];
        int64_t stride = info(type.dtype).bytes;
        for (size_t i = rank; i-- > 0; stride *= type.shape[i]) {
            layout[i] = type.shape[i];
            layout[rank + i] = stride;
        }
        view->buf = buffer.data();
        view->len = Py_ssize_t(type.bytes);
        view->itemsize = info(type.dtype).bytes;
        view->readonly = 1;
        view->ndim = int(rank);
        view->format = flags & PyBUF_FORMAT ? const_cast<char*>(info(type.dtype).format) : nullptr;
        view->shape = flags & PyBUF_ND ? layout : nullptr;
        view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? layout + rank : nullptr;
        view->suboffsets = nullptr;
        view->internal = layout;
        view->obj = Py_NewRef(self);
        return 0;
    } catch (nb::python_error& error) {
        error.restore();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_BufferError, error.what());
    }
    return -1;
}

void release_buffer(PyObject*, Py_buffer* view) noexcept { delete[] static_cast<Py_ssize_t*>(view->internal); }

PyType_Slot buffer_slots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
    {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
    {0, nullptr},
};

nb::object shape_tuple(const TensorType& type) {
    nb::object result = nb::steal(PyTuple_New(Py_ssize_t(type.shape.size())));
    for (size_t i = 0; i < type.shape.size(); i++)
        PyTuple_SET_ITEM(result.ptr(), Py_ssize_t(i), PyLong_FromLongLong(type.shape[i]));
    return result;
}

// The structures of DLPack 0.x (https://dmlc.github.io/dlpack): what a "dltensor" capsule holds.
struct DLDevice {
    int32_t kind, number;
};
struct DLType {
    uint8_t code, bits;
    uint16_t lanes;
};
struct DLTensor {
    void* data;
    DLDevice device;
    int32_t rank;
    DLType dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};
struct DLManagedTensor {
    DLTensor tensor;
    void* context;
    void (*deleter)(DLManagedTensor*);
};
constexpr int32_t dl_cpu = 1;

struct Exported {
    DLManagedTensor managed;
    StorageRef storage;
    std::vector<int64_t> shape;
};

nb::object to_dlpack(const Buffer& buffer) {
    wait(buffer);
    const DTypeInfo& dtype = info(buffer.type->dtype);
    auto* exported = new Exported{{}, buffer.storage, buffer.type->shape};
    exported->managed.tensor = {buffer.data(),
                                {dl_cpu, 0},
                                int32_t(exported->shape.size()),
                                {dtype.dlpack, uint8_t(dtype.bytes * 8), 1},
                                exported->shape.data(),
                                nullptr,
                                0};
    exported->managed.context = exported;
    exported->managed.deleter = [](DLManagedTensor* managed) { delete static_cast<Exported*>(managed->context); };
    return nb::steal(PyCapsule_New(&exported->managed, "dltensor", [](PyObject* capsule) {
        if (!PyCapsule_IsValid(capsule, "dltensor")) return;  // a consumer took it over and renamed it
        auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
        managed->deleter(managed);
    }));
}

}  // namespace

void bind_buffer(nb::module_& m) {
    nb::class_<Buffer>(
        m, "Buffer", nb::type_slots(buffer_slots), nb::is_weak_referenceable(),
        "A tensor in memory: element type (IR name), shape, row-major values.  Values never change once a program\n"
        "can see them, so buffers are shared freely; they may still be on their way (see `is_ready`, `wait`).")
        .def_static(
            "empty",
            [](const std::string& dtype, const std::vector<int64_t>& shape) {
                const TensorType* type = make_type(dtype, shape);
                return Buffer{type, allocate(type->bytes)};
            },
            nb::arg("dtype"), nb::arg("shape"), "New memory with undefined values.")
        .def_static(
            "from_numpy", from_numpy, nb::arg("array"), nb::arg("copy") = true,
            "A copy of an array, or of anything with the buffer protocol.  copy=False borrows its memory where it is\n"
            "row-major and aligned; programs that read borrowed memory run at once, not on a stream.")
        .def(
            "fill",
            [](Buffer& self, nb::object value) {
                wait(self);
                nb::object element = numpy_dtype(self.type->dtype).attr("type")(value).attr("tobytes")();
                fill(self.data(), *self.type, PyBytes_AsString(element.ptr()));
            },
            nb::arg("value"), "Set every element, before the buffer is given to anybody.")
        .def(
            "numpy",
            [](nb::handle self) {
                const Buffer& buffer = *nb::inst_ptr<Buffer>(self);
                wait(buffer);
                static PyObject* ndarray = nb::object(nb::module_::import_("numpy").attr("ndarray")).release().ptr();
                return nb::handle(ndarray)(shape_tuple(*buffer.type), numpy_dtype(buffer.type->dtype), self);
            },
            "A read-only NumPy array on the same memory, which it keeps alive.  Waits for the value and raises its "
            "error.")
        .def(
            "wait", [](const Buffer& self) { wait(self); },
            "Wait until the value is there; raise the error of the work that makes it.")
        .def("is_ready", &Buffer::ready, "Whether the value is there (or its work has failed); does not wait.")
        .def_prop_ro(
            "dtype", [](const Buffer& self) { return info(self.type->dtype).name; }, "The IR name of the element type.")
        .def_prop_ro("shape", [](const Buffer& self) { return shape_tuple(*self.type); })
        .def_prop_ro(
            "size", [](const Buffer& self) { return self.type->size; }, "Number of elements.")
        .def_prop_ro("nbytes", [](const Buffer& self) { return self.type->bytes; })
        .def_prop_ro(
            "ptr", [](const Buffer& self) { return reinterpret_cast<uintptr_t>(self.data()); },
            "Address of the memory.")
        .def_prop_ro(
            "borrowed", [](const Buffer& self) { return self.storage->borrowed; }, "Whether the memory is the user's.")
        .def("__dlpack__", [](const Buffer& self, nb::kwargs) { return to_dlpack(self); })
        .def("__dlpack_device__", [](const Buffer&) { return nb::make_tuple(dl_cpu, 0); })
        .def("__repr__", [](const Buffer& self) {
            return "<Buffer " + self.type->text() + (self.failed() ? ", failed>" : self.ready() ? ">" : ", pending>");
        });
}

}  // namespace jtc

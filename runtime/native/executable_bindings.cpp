// Loaded code and executables in Python.
#include <dlfcn.h>

#include "executable.h"
#include "python.h"

namespace jtc {
namespace {

class Library {
public:
    explicit Library(const std::string& path) : path_(path) {
        void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
            const char* reason = dlerror();
            throw InputError(path + ": cannot be loaded: " + (reason ? reason : "unknown reason"));
        }
        handle_ = std::shared_ptr<void>(handle, [](void* h) { dlclose(h); });
    }

    void* find(const std::string& symbol) const { return dlsym(handle_.get(), symbol.c_str()); }

    void* symbol(const std::string& symbol) const {
        void* address = find(symbol);
        if (!address) throw InputError(path_ + ": the symbol " + symbol + " is missing");
        return address;
    }

    Buffer constant(const std::string& name, int64_t offset, const std::string& dtype,
                    const std::vector<int64_t>& shape) const {
        auto storage = std::make_shared<Storage>();
        storage->data = static_cast<char*>(symbol(name)) + offset;
        storage->owner = handle_;
        return Buffer{intern(dtype_of(dtype), shape.data(), shape.size()), storage};
    }

    std::shared_ptr<void> handle() const { return handle_; }

private:
    std::string path_;
    std::shared_ptr<void> handle_;
};

Kind kind_of(const std::string& name) {
    const std::pair<const char*, Kind> kinds[] = {{"input", Kind::input},       {"output", Kind::output},
                                                  {"constant", Kind::constant}, {"prepared", Kind::prepared},
                                                  {"scratch", Kind::scratch},   {"arena", Kind::arena},
                                                  {"own", Kind::own}};
    for (auto& [text, kind] : kinds)
        if (name == text) return kind;
    throw InputError("'" + name + "' is not a kind of buffer");
}

std::vector<LaunchSpec> launches(nb::object rows, const Library& library, nb::object estimate) {
    std::vector<LaunchSpec> result;
    for (nb::handle row : rows) {
        LaunchSpec launch;
        launch.entry = reinterpret_cast<Entry>(library.symbol(nb::cast<std::string>(row.attr("symbol"))));
        launch.operands = nb::cast<std::vector<int>>(row.attr("operands"));
        launch.offsets = nb::cast<std::vector<int64_t>>(row.attr("offsets"));
        launch.units = nb::cast<int64_t>(row.attr("units"));
        launch.workspace = nb::cast<size_t>(row.attr("workspace"));
        launch.wave = nb::cast<int>(row.attr("wave"));
        launch.slice = nb::cast<int>(row.attr("slice"));
        launch.nanoseconds = nb::cast<int64_t>(estimate(row.attr("flops"), row.attr("bytes")));
        result.push_back(std::move(launch));
    }
    return result;
}

// From a checked runtime.plan.Plan.
std::shared_ptr<Executable> make(nb::object plan, const Library& library, nb::object estimate) {
    std::vector<BufferSpec> buffers;
    for (nb::handle row : plan.attr("buffers")) {
        auto shape = nb::cast<std::vector<int64_t>>(row.attr("shape"));
        const TensorType* type = intern(dtype_of(nb::cast<std::string>(row.attr("dtype"))), shape.data(), shape.size());
        if (type->bytes != nb::cast<size_t>(row.attr("bytes")))
            throw InputError("the plan is damaged: buffer " + nb::cast<std::string>(row.attr("name")) +
                             " has another size");
        buffers.push_back({nb::cast<std::string>(row.attr("name")), type,
                           kind_of(nb::cast<std::string>(row.attr("kind"))), nb::cast<int64_t>(row.attr("place"))});
    }
    std::vector<int> constants;
    for (nb::handle row : plan.attr("constants")) constants.push_back(nb::cast<int>(row.attr("buffer")));
    using Numbers = std::vector<int>;
    using Names = std::vector<std::string>;
    return std::make_shared<Executable>(
        nb::cast<std::string>(plan.attr("name")), std::move(buffers), nb::cast<Numbers>(plan.attr("inputs")),
        nb::cast<Numbers>(plan.attr("outputs")), nb::cast<Names>(plan.attr("input_names")),
        nb::cast<Names>(plan.attr("output_names")), std::move(constants),
        launches(plan.attr("prepare"), library, estimate), launches(plan.attr("launches"), library, estimate),
        nb::cast<std::vector<std::pair<size_t, size_t>>>(plan.attr("updates")),
        nb::cast<size_t>(plan.attr("arena_bytes")), nb::cast<size_t>(plan.attr("prepared_bytes")),
        nb::cast<size_t>(plan.attr("scratch_bytes")), nb::cast<size_t>(plan.attr("own_bytes")), library.handle());
}

std::vector<const Buffer*> pointers(const std::vector<Buffer>& buffers) {
    std::vector<const Buffer*> result;
    for (const Buffer& buffer : buffers) result.push_back(&buffer);
    return result;
}

}  // namespace

void bind_executable(nb::module_& m) {
    nb::class_<Library>(m, "Library", "A loaded shared object.")
        .def(nb::init<const std::string&>(), nb::arg("path"))
        .def("has", [](const Library& self, const std::string& name) { return self.find(name) != nullptr; })
        .def("constant", &Library::constant, nb::arg("symbol"), nb::arg("offset"), nb::arg("dtype"), nb::arg("shape"),
             "A Buffer on the library's own memory.");
    nb::class_<Executable>(m, "Executable", nb::is_weak_referenceable(),
                           "A plan with its code loaded; see runtime.module.Module.")
        .def(nb::new_(&make), nb::arg("plan"), nb::arg("library"), nb::arg("estimate"))
        .def_ro("name", &Executable::name)
        .def("bind", &Executable::bind, nb::arg("constants"),
             "Give the constants (Buffers in plan order) and run the launches that depend on them alone.")
        .def("is_bound", &Executable::bound)
        .def(
            "run",
            [](const Executable& self, const std::vector<Buffer>& inputs) {
                const auto values = pointers(inputs);
                self.check(values.data(), values.size());
                return self.run(values.data(), values.size());
            },
            nb::arg("inputs"), "Run on Buffers; returns the output Buffers, which may not be ready yet.")
        .def(
            "profile",
            [](const Executable& self, const std::vector<Buffer>& inputs) {
                const auto values = pointers(inputs);
                self.check(values.data(), values.size());
                return self.profile(values.data(), values.size());
            },
            nb::arg("inputs"), "Run on Buffers, launch after launch; returns the nanoseconds that each one took.");
}

}  // namespace jtc

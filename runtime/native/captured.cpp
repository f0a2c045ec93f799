#include "captured.h"

#include <algorithm>
#include <utility>

namespace jtc {

namespace {

// Dicts count their changes up to Python 3.11; where they do not, everything is looked up in every call.
#if PY_VERSION_HEX < 0x030C0000
constexpr bool versions = true;
uint64_t version_of(PyObject* dict) { return reinterpret_cast<PyDictObject*>(dict)->ma_version_tag; }
#else
constexpr bool versions = false;
uint64_t version_of(PyObject*) { return 0; }
#endif

// Whether a class has a `__getattribute__` of its own, that need not look into the objects' dicts.
bool finds_otherwise(nb::handle type) {
    const nb::handle object(reinterpret_cast<PyObject*>(&PyBaseObject_Type));
    return !type.attr("__getattribute__").is(object.attr("__getattribute__"));
}

bool all_distinct(std::vector<PyObject*> objects) {
    std::sort(objects.begin(), objects.end());
    return std::adjacent_find(objects.begin(), objects.end()) == objects.end();
}

// Whether it is a dict, perhaps of a class of the user's, that has no other way to find items.
bool is_plain_dict(nb::handle object) {
    if (PyDict_CheckExact(object.ptr())) return true;
    const nb::handle dict(reinterpret_cast<PyObject*>(&PyDict_Type));
    return PyDict_Check(object.ptr()) && object.type().attr("__getitem__").is(dict.attr("__getitem__"));
}

// How many of root and steps two places have in common, from the first.
size_t common(const Captured& a, const Captured& b) {
    if (a.root != b.root || !a.holder.is(b.holder) || !a.key.is(b.key)) return 0;
    size_t count = 0;
    while (count < std::min(a.path.size(), b.path.size()) && a.path[count].attribute == b.path[count].attribute &&
           a.path[count].key.equal(b.path[count].key))
        count++;
    return count + 1;
}

}  // namespace

Step::Step(bool attribute, nb::object key, nb::handle holder) : attribute(attribute), key(std::move(key)) {
    if (!attribute || !holder.is_valid() || !PyUnicode_CheckExact(this->key.ptr())) return;
    if (finds_otherwise(holder.type())) return;
    nb::object dict = nb::steal(PyObject_GenericGetDict(holder.ptr(), nullptr));
    PyErr_Clear();
    if (dict.is_valid() && PyDict_GetItem(dict.ptr(), this->key.ptr()) && !nb::hasattr(holder.type(), this->key))
        type = nb::borrow(holder.type());
}

PyObject* Captured::start() const {
    if (root == cell) return PyCell_GET(holder.ptr());
    return root == dict ? PyDict_GetItemWithError(holder.ptr(), key.ptr()) : holder.ptr();
}

void CapturedTensors::add_alias(size_t number, nb::handle entry) {
    if (number >= size_) throw nb::value_error("an alias of a captured tensor that is not there");
    add(entry, number);
}

void CapturedTensors::add(nb::handle entry, size_t number) {
    last_.holds = false;
    if (!PyTuple_CheckExact(entry.ptr())) {
        places_.push_back({Captured::object, nb::borrow(entry), {}, {}, number});
        return;
    }
    using Place = std::tuple<std::string, nb::object, nb::object, nb::sequence>;
    const auto [kind, holder, key, steps] = nb::cast<Place>(entry);
    Captured result{Captured::object, holder, key, {}, number};
    if (kind == "cell" && PyCell_Check(holder.ptr())) {
        result.root = Captured::cell;
    } else if (kind == "global" && PyDict_CheckExact(holder.ptr())) {
        result.root = Captured::dict;
    } else if (kind != "object") {
        throw nb::value_error(("unknown kind of place: " + kind).c_str());
    }
    std::vector<Stop> trail;
    Memory memory;
    for (nb::handle step : steps) {
        const bool there = look_up(result, trail, memory);
        result.path.emplace_back(nb::cast<std::string>(step[0]) == "attr", nb::object(step[1]),
                                 there ? nb::handle(trail.back().object) : nb::handle());
    }
    if (!places_.empty()) result.shared = common(places_.back(), result);
    places_.push_back(std::move(result));
}

bool CapturedTensors::find(std::vector<nb::object>& held) {
    if (last_.holds && unchanged()) return true;
    Memory memory{{}, {}, {}, versions};  // not the member: looking up may run Python code, and with it other threads
    std::vector<Stop> trail;              // root and what follows it, of the place before
    for (const Captured& captured : places_) {
        trail.resize(std::min(trail.size(), captured.shared));
        if (!look_up(captured, trail, memory)) return false;
        memory.roots.push_back(trail.front().object.ptr());
        if (captured.number < memory.found.size()) {
            if (!trail.back().object.is(memory.found[captured.number])) return false;
            continue;
        }
        memory.found.push_back(trail.back().object.ptr());
        held.push_back(trail.back().object);
    }
    if (distinct && !all_distinct(memory.found)) return false;
    last_ = std::move(memory);
    return true;
}

// From the roots outwards, so that what is looked at is alive.
bool CapturedTensors::unchanged() const {
    for (size_t i = 0; i < places_.size(); i++)
        if (!places_[i].shared && places_[i].start() != last_.roots[i]) {
            PyErr_Clear();
            return false;
        }
    for (const Seen& seen : last_.seen) {
        if (reinterpret_cast<PyObject*>(Py_TYPE(seen.holder)) != seen.type) return false;
        switch (seen.kind) {
            case Seen::attributes:
                if (*seen.place != seen.inside || version_of(seen.inside) != seen.version) return false;
                break;
            case Seen::dict:
                if (version_of(seen.holder) != seen.version) return false;
                break;
            case Seen::list:
                if (seen.index >= PyList_GET_SIZE(seen.holder) ||
                    PyList_GET_ITEM(seen.holder, seen.index) != seen.inside)
                    return false;
        }
    }
    return true;
}

// Goes on from the end of the trail to the end of the path; false where the way no longer exists.
bool CapturedTensors::look_up(const Captured& captured, std::vector<Stop>& trail, Memory& memory) {
    if (trail.empty()) trail.push_back({nb::borrow(captured.start())});
    while (trail.size() <= captured.path.size() && trail.back().object.is_valid())
        trail.push_back({take(captured.path[trail.size() - 1], trail.back(), memory)});
    if (trail.back().object.is_valid()) return true;
    PyErr_Clear();
    return false;
}

// What a step leads to; invalid, with an error set or not, where it is not there.
nb::object CapturedTensors::take(const Step& step, Stop& stop, Memory& memory) {
    PyObject *from = stop.object.ptr(), *type = reinterpret_cast<PyObject*>(Py_TYPE(from));
    if (step.type.is_valid() && step.type.ptr() == type) {  // past the search through the classes
        nb::object dict = nb::steal(PyObject_GenericGetDict(from, nullptr));
        if (dict.is_valid()) {
            if (PyObject** place = _PyObject_GetDictPtr(from); !place || *place != dict.ptr())
                memory.holds = false;
            else if (!std::exchange(stop.seen, true))
                memory.seen.push_back({Seen::attributes, from, type, place, *place, version_of(*place), 0});
            return nb::borrow(PyDict_GetItemWithError(dict.ptr(), step.key.ptr()));
        }
        PyErr_Clear();
    }
    if (!step.attribute && is_plain_dict(from)) {
        if (PyObject* item = PyDict_GetItemWithError(from, step.key.ptr())) {
            if (!std::exchange(stop.seen, true))
                memory.seen.push_back({Seen::dict, from, type, nullptr, nullptr, version_of(from), 0});
            return nb::borrow(item);
        }
        PyErr_Clear();  // a dict with `__missing__` may still have something
    }
    nb::object value = nb::steal(step.attribute ? PyObject_GetAttr(from, step.key.ptr())
                                                : PyObject_GetItem(from, step.key.ptr()));
    if (!step.attribute && PyList_CheckExact(from) && value.is_valid()) {
        const Py_ssize_t index = PyNumber_AsSsize_t(step.key.ptr(), nullptr);
        memory.seen.push_back({Seen::list, from, type, nullptr, value.ptr(), 0,
                               index < 0 ? index + PyList_GET_SIZE(from) : index});
    } else if (step.attribute || !PyTuple_CheckExact(from)) {
        memory.holds = false;  // a property, an object of the user's: it may give another value next time
    }
    return value;
}

}  // namespace jtc

#include "captured.h"

#include <algorithm>

namespace jtc {

namespace {

// Whether a class has a `__getattribute__` of its own, that need not look into the objects' dicts.
bool finds_otherwise(nb::handle type) {
    const nb::handle object(reinterpret_cast<PyObject*>(&PyBaseObject_Type));
    return !type.attr("__getattribute__").is(object.attr("__getattribute__"));
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

nb::object Step::take(const nb::object& holder) const {
    if (type.is_valid() && holder.type().is(type)) {  // past the search through the classes
        nb::object dict = nb::steal(PyObject_GenericGetDict(holder.ptr(), nullptr));
        if (dict.is_valid()) return nb::borrow(PyDict_GetItemWithError(dict.ptr(), key.ptr()));
    }
    return nb::steal(attribute ? PyObject_GetAttr(holder.ptr(), key.ptr()) : PyObject_GetItem(holder.ptr(), key.ptr()));
}

nb::object Captured::find(std::vector<nb::object>& trail) const {
    trail.resize(std::min(trail.size(), shared));
    if (trail.empty()) {
        nb::object value = holder;
        if (root == cell) {
            value = nb::steal(PyCell_Get(holder.ptr()));
        } else if (root == dict) {
            value = nb::borrow(PyDict_GetItemWithError(holder.ptr(), key.ptr()));
        }
        trail.push_back(std::move(value));
    }
    while (trail.size() <= path.size() && trail.back().is_valid())
        trail.push_back(path[trail.size() - 1].take(trail.back()));
    if (!trail.back().is_valid()) PyErr_Clear();
    return trail.back();
}

Captured captured_of(nb::handle entry) {
    if (!PyTuple_CheckExact(entry.ptr())) return {Captured::object, nb::borrow(entry), {}, {}};
    using Place = std::tuple<std::string, nb::object, nb::object, nb::sequence>;
    const auto [kind, holder, key, steps] = nb::cast<Place>(entry);
    Captured result{Captured::object, holder, key, {}};
    if (kind == "cell" && PyCell_Check(holder.ptr())) {
        result.root = Captured::cell;
    } else if (kind == "global" && PyDict_CheckExact(holder.ptr())) {
        result.root = Captured::dict;
    } else if (kind != "object") {
        throw nb::value_error(("unknown kind of place: " + kind).c_str());
    }
    for (nb::handle step : steps) {
        std::vector<nb::object> trail;
        nb::object from = result.find(trail);
        result.path.emplace_back(nb::cast<std::string>(step[0]) == "attr", nb::object(step[1]), from);
    }
    return result;
}

size_t common(const Captured& a, const Captured& b) {
    if (a.root != b.root || !a.holder.is(b.holder) || !a.key.is(b.key)) return 0;
    size_t count = 0;
    while (count < std::min(a.path.size(), b.path.size()) && a.path[count].attribute == b.path[count].attribute &&
           a.path[count].key.equal(b.path[count].key))
        count++;
    return count + 1;
}

}  // namespace jtc

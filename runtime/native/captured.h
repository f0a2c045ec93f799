// Tensors that a jitted function uses and does not get as arguments: where they are found in every call.
#pragma once
#include "python.h"

namespace jtc {

// A step from an object to one that it holds.
struct Step {
    bool attribute;     // or an item
    nb::object key;     // name, or key
    nb::object type;    // whose instances have the attribute in their dict, where nothing of the type hides it

    Step(bool attribute, nb::object key, nb::handle holder);
};

// A tensor that is no argument: an object, or a place that is looked up in every call.
struct Captured {
    enum Root { object, cell, dict } root;
    nb::object holder, key;  // key: in the dict
    std::vector<Step> path;  // from the root
    size_t shared = 0;       // of root and steps, how many are also those of the captured tensor before

    // What the path starts from now; borrowed, null where it is missing.
    PyObject* start() const;
};

// The tensors that one signature captures.
//
// What was found is remembered with the objects and the versions of the dicts and lists on the way.  While all of them
// are the same, so are the tensors, and nothing is looked up.
class CapturedTensors {
public:
    // Adds a tensor, or a tuple (kind, holder, key, steps) as of `Place` in frontend/places.py.
    void add(nb::handle entry);
    size_t size() const { return places_.size(); }
    // Appends what is there now, in order; false where one no longer exists.
    bool find(std::vector<nb::object>& tensors);

    template <typename Visit>
    int each_object(Visit visit) {
        for (Captured& captured : places_) {
            for (nb::object* object : {&captured.holder, &captured.key})
                if (int result = visit(*object)) return result;
            for (Step& step : captured.path)
                for (nb::object* object : {&step.key, &step.type})
                    if (int result = visit(*object)) return result;
        }
        return 0;
    }

private:
    // A dict or list on the way, as it was: of an object, or itself the object.
    struct Seen {
        PyObject *holder, *type, *container;
        uint64_t version;  // of a dict
        Py_ssize_t index;  // in a list
        PyObject* item;    // what was there
    };

    // What was found, borrowed: it is alive while the roots and what was seen from them on are the same.
    struct Memory {
        std::vector<PyObject*> roots, found;
        std::vector<Seen> seen;
        bool holds = false;  // whether the next call may use it
    };

    std::vector<Captured> places_;
    Memory last_;

    bool unchanged() const;
    static bool look_up(const Captured& captured, std::vector<nb::object>& trail, Memory& memory);
    static nb::object take(const Step& step, const nb::object& holder, Memory& memory);
};

}  // namespace jtc

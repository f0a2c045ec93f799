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
    size_t number = 0;       // of the tensor
    size_t shared = 0;       // of root and steps, how many are also those of the place before

    // What the path starts from now; borrowed, null where it is missing.
    PyObject* start() const;
};

// The tensors that one signature captures.
//
// What was found is remembered with the objects and the versions of the dicts and lists on the way.  While all of them
// are the same, so are the tensors, and nothing is looked up.  A dict that several paths enter is looked at once.
class CapturedTensors {
public:
    // Adds a tensor, or a tuple (kind, holder, key, steps) as of `Place` in frontend/places.py.
    void add(nb::handle entry) { add(entry, size_++); }
    // Adds another place where tensor `number` has to be.
    void add_alias(size_t number, nb::handle entry);
    size_t size() const { return size_; }
    // Looks for what is there now; false where one no longer exists, is not in all of its places, or, if they have to be
    // distinct, two are the same.  What may have no other owner goes into `held`.
    bool find(std::vector<nb::object>& held);
    // What was found, in order; borrowed, for as long as no Python code runs.
    const std::vector<PyObject*>& found() const { return last_.found; }

    bool distinct = false;

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
    // A dict or list on the way, as it was.
    struct Seen {
        enum Kind { attributes, dict, list } kind;
        PyObject *holder, *type;
        PyObject** place;   // attributes: where the object has its dict
        PyObject* inside;   // attributes: that dict; list: the item
        uint64_t version;   // of the dict
        Py_ssize_t index;   // of the item
    };

    // An object on the way, and whether its dict is among what was seen.
    struct Stop {
        nb::object object;
        bool seen = false;
    };

    // What was found, borrowed: it is alive while the roots and what was seen from them on are the same.
    struct Memory {
        std::vector<PyObject*> roots, found;
        std::vector<Seen> seen;
        bool holds = false;  // whether the next call may use it
    };

    std::vector<Captured> places_;  // the first of each tensor, then aliases
    size_t size_ = 0;               // tensors
    Memory last_;

    void add(nb::handle entry, size_t number);
    bool unchanged() const;
    static bool look_up(const Captured& captured, std::vector<Stop>& trail, Memory& memory);
    static nb::object take(const Step& step, Stop& stop, Memory& memory);
};

}  // namespace jtc

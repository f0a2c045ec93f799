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
    nb::object take(const nb::object& holder) const;  // invalid, with an error set or not, where it is not there
};

// A tensor that is no argument: an object, or a place that is looked up in every call.
struct Captured {
    enum Root { object, cell, dict } root;
    nb::object holder, key;  // key: in the dict
    std::vector<Step> path;  // from the root
    size_t shared = 0;       // of root and steps, how many are also those of the captured tensor before

    // What is there now; invalid where the way no longer exists.
    // trail: root and what follows it, of the captured tensor before; becomes that of this one
    nb::object find(std::vector<nb::object>& trail) const;
};

// From a tensor, or a tuple (kind, holder, key, steps) as of `Place` in frontend/places.py.
Captured captured_of(nb::handle entry);

// How many of root and steps two captured tensors have in common, from the first.
size_t common(const Captured& a, const Captured& b);

}  // namespace jtc

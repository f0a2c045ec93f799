// Element types and tensor types.  Tensor types are interned: equal ones are the same object, so a check is a
// comparison of pointers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace jtc {

enum class DType : uint8_t { i1, i8, i16, i32, i64, ui8, ui16, ui32, ui64, f16, bf16, f32, f64 };

struct DTypeInfo {
    const char* name;    // in the IR
    const char* numpy;   // in NumPy (bfloat16 is ml_dtypes')
    const char* format;  // of the buffer protocol
    uint8_t bytes;
    uint8_t dlpack;  // DLDataTypeCode
};

const DTypeInfo& info(DType dtype);
DType dtype_of(const std::string& name);  // from the IR name; throws InputError

struct TensorType {
    DType dtype;
    std::vector<int64_t> shape;
    int64_t size;  // elements
    size_t bytes;

    std::string text() const;  // "float32[2, 3]"
};

// The one object for this type.  Types live as long as the process.
const TensorType* intern(DType dtype, const int64_t* shape, size_t rank);

// Becomes jtc.dialects.errors.InputError in Python.
struct InputError : std::runtime_error {
    std::string hint;
    explicit InputError(const std::string& message, std::string hint = "")
        : std::runtime_error(message), hint(std::move(hint)) {}
};

}  // namespace jtc

#include "types.h"

#include <memory>
#include <mutex>
#include <unordered_map>

namespace jtc {
namespace {

enum DLPackCode : uint8_t { dl_int = 0, dl_uint = 1, dl_float = 2, dl_bfloat = 4, dl_bool = 6 };

const DTypeInfo table[] = {
    {"i1", "bool", "?", 1, dl_bool},      {"i8", "int8", "b", 1, dl_int},          {"i16", "int16", "h", 2, dl_int},
    {"i32", "int32", "i", 4, dl_int},     {"i64", "int64", "q", 8, dl_int},        {"ui8", "uint8", "B", 1, dl_uint},
    {"ui16", "uint16", "H", 2, dl_uint},  {"ui32", "uint32", "I", 4, dl_uint},     {"ui64", "uint64", "Q", 8, dl_uint},
    {"f16", "float16", "e", 2, dl_float}, {"bf16", "bfloat16", "H", 2, dl_bfloat}, {"f32", "float32", "f", 4, dl_float},
    {"f64", "float64", "d", 8, dl_float},
};
constexpr size_t dtypes = sizeof(table) / sizeof(table[0]);

struct Table {
    std::mutex mutex;
    std::unordered_multimap<uint64_t, std::unique_ptr<TensorType>> types;
};

Table& interned() {
    static Table* types = new Table;  // never destroyed: types outlive every other static object
    return *types;
}

}  // namespace

const DTypeInfo& info(DType dtype) { return table[size_t(dtype)]; }

DType dtype_of(const std::string& name) {
    for (size_t i = 0; i < dtypes; i++)
        if (name == table[i].name) return DType(i);
    throw InputError("'" + name + "' is not an element type");
}

std::string TensorType::text() const {
    std::string result = std::string(info(dtype).numpy) + "[";
    for (size_t i = 0; i < shape.size(); i++) result += (i ? ", " : "") + std::to_string(shape[i]);
    return result + "]";
}

const TensorType* intern(DType dtype, const int64_t* shape, size_t rank) {
    uint64_t hash = uint64_t(dtype) + 1;
    int64_t size = 1;
    for (size_t i = 0; i < rank; i++) {
        if (shape[i] < 0) throw InputError("negative dimension " + std::to_string(shape[i]));
        hash = (hash ^ uint64_t(shape[i])) * 0x9E3779B97F4A7C15ull;
        if (__builtin_mul_overflow(size, shape[i], &size)) throw InputError("the shape has more than 2^63 elements");
    }
    int64_t bytes;
    if (__builtin_mul_overflow(size, int64_t(info(dtype).bytes), &bytes))
        throw InputError("the shape has more than 2^63 bytes");
    Table& known = interned();
    std::lock_guard<std::mutex> lock(known.mutex);
    auto range = known.types.equal_range(hash);
    for (auto it = range.first; it != range.second; ++it) {
        const TensorType& type = *it->second;
        if (type.dtype == dtype && type.shape.size() == rank && std::equal(type.shape.begin(), type.shape.end(), shape))
            return &type;
    }
    auto type =
        std::make_unique<TensorType>(TensorType{dtype, std::vector<int64_t>(shape, shape + rank), size, size_t(bytes)});
    return known.types.emplace(hash, std::move(type))->second.get();
}

}  // namespace jtc

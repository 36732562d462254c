#pragma once

#include <napi.h>

#include <cstddef>
#include <initializer_list>

namespace tsunagi {

// What an exported function takes, as data: checked in one place, before any system call.
enum class Kind {
  kFd,        // an int32; whether it is open is for the kernel to say
  kCount,     // an int32 that is not negative
  kTimeout,   // milliseconds: -1, or finite and not negative
  kPath,      // a string, neither empty nor with a NUL in it
  kFds,       // Int32Array
  kBytes,     // Uint8Array
  kNumbers,   // Float64Array
  kArray,
  kObject,
  kBoolean,
  kFunction,
};

struct Parameter {
  const char* name;
  Kind kind;
};

// False with a TypeError or RangeError pending when an argument does not fit.
bool Accept(const Napi::CallbackInfo& info, std::initializer_list<Parameter> parameters);

bool IsBytes(const Napi::Value& value);

// A view of an Int32Array, valid as long as no JavaScript runs.
struct FdList {
  explicit FdList(const Napi::Value& value) : array_(value.As<Napi::Int32Array>()), data_(array_.Data()) {}

  const int* begin() const { return data_; }
  const int* end() const { return data_ + size(); }
  size_t size() const { return array_.ElementLength(); }

 private:
  Napi::Int32Array array_;
  const int* data_;
};

}  // namespace tsunagi

#include "arguments.h"

#include <cmath>
#include <cstdint>
#include <string>

#include "napi_error.h"

namespace tsunagi {
namespace {

enum class Verdict { kFits, kWrongType, kOutOfRange, kWrongValue };

struct Rule {
  const char* expected;
  Verdict (*judge)(const Napi::Value&);
};

Verdict TypeIs(bool fits) { return fits ? Verdict::kFits : Verdict::kWrongType; }

bool IsTypedArray(const Napi::Value& value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
}

Verdict JudgeInteger(const Napi::Value& value, double lowest) {
  if (!value.IsNumber()) return Verdict::kWrongType;
  double number = value.As<Napi::Number>().DoubleValue();
  bool fits = number >= lowest && number <= INT32_MAX && std::trunc(number) == number;
  return fits ? Verdict::kFits : Verdict::kOutOfRange;
}

Verdict JudgeTimeout(const Napi::Value& value) {
  if (!value.IsNumber()) return Verdict::kWrongType;
  double number = value.As<Napi::Number>().DoubleValue();
  // The upper bound, 11 days, keeps the deadline's nanoseconds far from overflow.
  return number == -1 || (number >= 0 && number <= 1e9) ? Verdict::kFits : Verdict::kOutOfRange;
}

Verdict JudgePath(const Napi::Value& value) {
  if (!value.IsString()) return Verdict::kWrongType;
  std::string path = value.As<Napi::String>();
  return path.empty() || path.find('\0') != std::string::npos ? Verdict::kWrongValue : Verdict::kFits;
}

Rule RuleOf(Kind kind) {
  switch (kind) {
    case Kind::kFd:
      return {"an int32", [](const Napi::Value& value) { return JudgeInteger(value, INT32_MIN); }};
    case Kind::kCount:
      return {"an int32 >= 0", [](const Napi::Value& value) { return JudgeInteger(value, 0); }};
    case Kind::kTimeout:
      return {"milliseconds: -1, or 0 to 1e9", JudgeTimeout};
    case Kind::kPath:
      return {"a path, not empty and without null bytes", JudgePath};
    case Kind::kFds:
      return {"an Int32Array", [](const Napi::Value& value) { return TypeIs(IsTypedArray(value, napi_int32_array)); }};
    case Kind::kBytes:
      return {"a Uint8Array", [](const Napi::Value& value) { return TypeIs(IsBytes(value)); }};
    case Kind::kNumbers:
      return {"a Float64Array", [](const Napi::Value& value) { return TypeIs(IsTypedArray(value, napi_float64_array)); }};
    case Kind::kBoolean:
      return {"a boolean", [](const Napi::Value& value) { return TypeIs(value.IsBoolean()); }};
    case Kind::kArray:
      return {"an array", [](const Napi::Value& value) { return TypeIs(value.IsArray()); }};
    case Kind::kObject:
      return {"an object", [](const Napi::Value& value) { return TypeIs(value.IsObject()); }};
    case Kind::kFunction:
      break;
  }
  return {"a function", [](const Napi::Value& value) { return TypeIs(value.IsFunction()); }};
}

}  // namespace

bool IsBytes(const Napi::Value& value) { return IsTypedArray(value, napi_uint8_array); }

bool Accept(const Napi::CallbackInfo& info, std::initializer_list<Parameter> parameters) {
  size_t index = 0;
  for (const Parameter& parameter : parameters) {
    Rule rule = RuleOf(parameter.kind);
    Verdict verdict = rule.judge(info[index++]);
    if (verdict == Verdict::kFits) continue;
    std::string message = std::string("The \"") + parameter.name + "\" argument must be " + rule.expected;
    if (verdict == Verdict::kOutOfRange) {
      ThrowRange(info.Env(), message);
    } else {
      ThrowType(info.Env(), verdict == Verdict::kWrongType ? "ERR_INVALID_ARG_TYPE" : "ERR_INVALID_ARG_VALUE", message);
    }
    return false;
  }
  return true;
}

}  // namespace tsunagi

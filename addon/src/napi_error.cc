#include "napi_error.h"

#include <uv.h>

#include <cerrno>

namespace tsunagi {
namespace {

// ETOOMANYREFS is the one code the channel meets that libuv has no name for.
const char* CodeName(int error) { return error == ETOOMANYREFS ? "ETOOMANYREFS" : uv_err_name(-error); }

Napi::Error NewErrno(Napi::Env env, int error, const char* syscall, const std::string& details) {
  const char* code = CodeName(error);
  std::string message = std::string(syscall) + " " + code;
  if (!details.empty()) message += " " + details;
  Napi::Error result = Napi::Error::New(env, message);
  result.Set("errno", Napi::Number::New(env, -error));
  result.Set("code", Napi::String::New(env, code));
  result.Set("syscall", Napi::String::New(env, syscall));
  return result;
}

}  // namespace

Napi::Value ThrowErrno(Napi::Env env, int error, const char* syscall, const std::string& address) {
  Napi::Error result = NewErrno(env, error, syscall, address);
  if (!address.empty()) result.Set("address", Napi::String::New(env, address));
  result.ThrowAsJavaScriptException();
  return {};
}

Napi::Value ThrowErrnoBecause(Napi::Env env, int error, const char* syscall, const std::string& reason) {
  NewErrno(env, error, syscall, reason).ThrowAsJavaScriptException();
  return {};
}

Napi::Value ThrowType(Napi::Env env, const char* code, const std::string& message) {
  Napi::TypeError error = Napi::TypeError::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  error.ThrowAsJavaScriptException();
  return {};
}

Napi::Value ThrowRange(Napi::Env env, const std::string& message) {
  Napi::RangeError error = Napi::RangeError::New(env, message);
  error.Set("code", Napi::String::New(env, "ERR_OUT_OF_RANGE"));
  error.ThrowAsJavaScriptException();
  return {};
}

}  // namespace tsunagi

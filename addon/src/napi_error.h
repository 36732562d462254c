#pragma once

#include <napi.h>

#include <string>

namespace tsunagi {

// Each of these leaves one JavaScript exception pending and returns the empty value, so that a function ends with `return Throw…`.

// A failed system call in Node's shape: `errno` (negative), `code`, `syscall`, and `address` where a path was involved.
Napi::Value ThrowErrno(Napi::Env env, int error, const char* syscall, const std::string& address = {});

// Same, with a sentence after the code.
Napi::Value ThrowErrnoBecause(Napi::Env env, int error, const char* syscall, const std::string& reason);

// Misuse: `code` as Node names it (ERR_INVALID_ARG_TYPE, ERR_INVALID_ARG_VALUE).
Napi::Value ThrowType(Napi::Env env, const char* code, const std::string& message);

// A value of the right type that no call can use: ERR_OUT_OF_RANGE.
Napi::Value ThrowRange(Napi::Env env, const std::string& message);

}  // namespace tsunagi

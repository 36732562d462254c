#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "connection_record.h"

namespace tsunagi {

template <typename Value>
bool GetOption(int fd, int level, int option, Value* value) {
  socklen_t length = sizeof *value;
  return getsockopt(fd, level, option, value, &length) == 0;
}

template <typename Value>
bool SetOption(int fd, int level, int option, const Value& value) {
  return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

// The few names that a row refers to by their place here.
class Names {
 public:
  Names() = default;
  explicit Names(std::vector<std::string> names) : names_(std::move(names)) {}

  double Add(const std::string& name);
  // Empty where the row names none.
  std::string At(double place) const;
  const std::vector<std::string>& All() const { return names_; }

 private:
  std::vector<std::string> names_;
};

// Reads into the columns from kSendBuffer on, but for kReuseAddress, which repair mode hides, and kScope, which comes with the address.
void ReadOptions(int fd, bool ipv4, double* row, Names* names);

// What a new socket of a family has without asking for it: only what differs need be set.
struct OptionDefaults {
  double row[kColumns];
  Names names;
  // False with errno.
  bool Read(int family);
};

// For a socket that is neither bound nor connected: none of this then has an effect on the wire. Buffers are not touched.
// Returns how many options the kernel refused.
int WriteOptions(int fd, bool ipv4, const double* row, const Names& names, const OptionDefaults& defaults);

// Room for queues that are loaded before autotuning could make any; RestoreBufferLock gives autotuning back.
void WriteBuffers(int fd, const double* row, const OptionDefaults& defaults);
void RestoreBufferLock(int fd, const double* row);

}  // namespace tsunagi

#pragma once

#include <vector>

namespace tsunagi {

// Whose packets may be held: those of ports that any user may listen on, and those that were named when the helper was started. Else a
// server could silence what is none of its business, such as a mail server on this machine.
class AllowedPorts {
 public:
  // The first port that any user may listen on here. @note ip(7), ip_unprivileged_port_start
  explicit AllowedPorts(int first) : first_(first) {}
  void Add(int port) { more_.push_back(port); }

  bool Include(int port) const {
    if (port < 1 || port > 65535) return false;
    if (port >= first_) return true;
    for (int allowed : more_) {
      if (allowed == port) return true;
    }
    return false;
  }

 private:
  int first_;
  std::vector<int> more_;
};

}  // namespace tsunagi

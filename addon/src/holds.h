#pragma once

#include <array>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "connection_record.h"
#include "hold_table.h"
#include "netlink.h"

namespace tsunagi {

// Elements of the sets, in the form that the sets have them.
using HoldKeys = std::array<std::vector<std::string>, kHoldSets>;
// The same with how many milliseconds each has left.
using HeldKeys = std::array<std::unordered_map<std::string, double>, kHoldSets>;

// Ports must be from 1 to 65535.
HoldKeys ToHoldKeys(const int* ports, size_t port_count, const Tuple* tuples, size_t tuple_count);

// The elements of the table `inet tsunagi`, by netlink. All functions give 0 or an errno; ENOENT where there is no table.
class Holds {
 public:
  // EEXIST when it is there already.
  int Create();
  int Remove();
  int Add(const HoldKeys& keys, double timeout_ms);
  // Without a table nothing is held.
  int Release(const HoldKeys& keys, size_t* released);
  int List(HeldKeys* held);

 private:
  template <typename Attempt>
  int Try(Attempt attempt);
  int Change(const HoldKeys& keys, double timeout_ms, size_t* deleted);

  // From the first change on.
  std::unique_ptr<NetfilterSocket> kept_;
};

}  // namespace tsunagi

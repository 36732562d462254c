#pragma once

// What a server and the helper say to each other, over a unix stream socket on one machine, hence in its own byte order.
// src/native/repair-helper.ts is the other end. One request, one answer; descriptors travel with the first byte of their request.

#include <cstdint>

namespace tsunagi {

constexpr uint32_t kProtocol = 0x74736801;  // "tsh", version 1

enum Operation : uint32_t {
  // Descriptors; answers with what EnterRepairMode() gave for each.
  kEnter = 1,
  // Descriptors, and for each what entering gave; `argument` 1 with a probe. Answers with 0 or an errno for each.
  kLeave,
  // Answers with 1 when the table was made, 0 when it was there.
  kHoldCreate,
  // Ports and connections; `argument` milliseconds.
  kHoldAdd,
  // Ports and connections; answers with how many were held.
  kHoldRelease,
  // Answers with ports, milliseconds left for each, connections, milliseconds left for each.
  kHoldList,
};

struct Request {
  uint32_t protocol;
  uint32_t operation;
  // Of descriptors or ports: an int32 for each follows, but for kEnter.
  uint32_t numbers;
  // Of connections: 36 bytes for each follow.
  uint32_t tuples;
  uint32_t argument;
};

// `numbers` int32 follow, then `tuples` of 36 bytes.
struct Answer {
  int32_t error;
  uint32_t numbers;
  uint32_t tuples;
};

constexpr uint32_t kMaxFds = 252;
constexpr uint32_t kMaxPorts = 4096;
constexpr uint32_t kMaxTuples = 4096;
// A server that goes away without releasing keeps its packets away for no longer than this.
constexpr uint32_t kMaxHoldMs = 600'000;

}  // namespace tsunagi

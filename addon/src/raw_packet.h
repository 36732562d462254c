#pragma once

#include <cstddef>
#include <cstdint>

#include "connection_record.h"

namespace tsunagi {

// An IP packet with a TCP segment that has neither payload nor options.
struct RawPacket {
  size_t length;
  uint8_t bytes[60];
};

struct Segment {
  uint32_t sequence;
  uint32_t acknowledged;
  uint16_t window;
  bool fin;
};

RawPacket ToPacket(const Tuple::End& from, const Tuple::End& to, bool ipv4, const Segment& segment);

// 0 or an errno. To the host of `to`, through a raw socket of that family.
int SendRaw(int fd, const void* data, size_t length, const Tuple::End& to, bool ipv4, uint32_t scope);

// RFC 1071, over an even number of bytes.
class Checksum {
 public:
  void Add(const void* data, size_t length);
  void Add(uint16_t number) { sum_ += number; }
  // In network order.
  uint16_t Value() const;

 private:
  uint32_t sum_ = 0;
};

}  // namespace tsunagi

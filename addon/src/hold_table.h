#pragma once

#include <cstdint>
#include <string>

#include "connection_record.h"
#include "netlink.h"

namespace tsunagi {

// The table `inet tsunagi`: three sets of what is held, and two chains that drop it in either direction.
inline constexpr char kHoldTable[] = "tsunagi";
inline constexpr uint8_t kHoldFamily = 1;  // NFPROTO_INET

// What is held: every connection of a local port, or single ones.
struct HoldSet {
  const char* name;
  // For `nft list` only.
  uint32_t key_type;
  uint32_t key_bytes;
  // Lengths of the parts of a key, each padded to 4 bytes; the whole key where there is only one.
  uint32_t fields[4];
};
enum HoldSetNumber { kHeldPorts, kHeldIpv4, kHeldIpv6, kHoldSets };
extern const HoldSet kHoldSetList[kHoldSets];

// Packets that bear it are not held: "tsng".
inline constexpr int kHoldMark = 0x74736e67;

uint16_t NfTables(uint16_t message);

// Keys of elements, as the sets have them, and back.
std::string PortKey(int port);
std::string TupleKey(const Tuple& tuple);
int ToPort(const std::string& key);
Tuple ToTuple(const std::string& key, bool ipv4);

// Makes the table with everything in it, or fails with EEXIST when there is one.
void PutHoldTable(Transaction* transaction);
void PutHoldTableRemoval(Transaction* transaction);

}  // namespace tsunagi

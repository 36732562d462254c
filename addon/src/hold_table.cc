// The ruleset of the packet hold. As `nft list table inet tsunagi` shows it:
//
//     chain pre { type filter hook prerouting priority raw; policy accept;
//       meta mark 0x74736e67 notrack accept                        our own injected segments
//       tcp dport @ports drop
//       ip daddr . tcp dport . ip saddr . tcp sport @t4 drop
//       ip6 daddr . tcp dport . ip6 saddr . tcp sport @t6 drop }
//     chain out { … hook output …; the same with source and destination exchanged }
//
// A key is always local address . local port . peer address . peer port, so that one element holds both directions. Priority raw (-300)
// is before connection tracking, which so never sees what was held. A table of an owner would vanish with its process: this has none.

#include "hold_table.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>

#include <initializer_list>

namespace tsunagi {

// @note the types are libnftables' (datatype.h): ipv4_addr 7, ipv6_addr 8, inet_service 13, concatenated in 6 bits each.
const HoldSet kHoldSetList[kHoldSets] = {
    {"ports", 13, 2, {2, 0, 0, 0}},
    {"t4", 7 << 18 | 13 << 12 | 7 << 6 | 13, 16, {4, 2, 4, 2}},
    {"t6", 8 << 18 | 13 << 12 | 8 << 6 | 13, 40, {16, 2, 16, 2}},
};

namespace {

// Missing in older headers. NFTA_SET_DESC_CONCAT and NFTA_SET_FIELD_LEN since Linux 5.6, NFT_SET_CONCAT since 5.7.
constexpr uint16_t kDescConcat = 2;
constexpr uint16_t kFieldLength = 1;
constexpr uint32_t kSetFlagTimeout = 0x10;
constexpr uint32_t kSetFlagConcat = 0x80;

// An element without a time of its own would stay for ever. Each is given one; this is against a mistake.
constexpr uint64_t kDefaultTimeoutMs = 60'000;

constexpr uint32_t kPriorityRaw = static_cast<uint32_t>(-300);

enum class Direction { kIn, kOut };

// A part of the packet that goes into a register.
struct Load {
  uint32_t base;
  uint32_t offset;
  uint32_t length;
};
constexpr Load kSourcePort{NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2};
constexpr Load kDestinationPort{NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2};
constexpr Load kSourceIpv4{NFT_PAYLOAD_NETWORK_HEADER, 12, 4};
constexpr Load kDestinationIpv4{NFT_PAYLOAD_NETWORK_HEADER, 16, 4};
constexpr Load kSourceIpv6{NFT_PAYLOAD_NETWORK_HEADER, 8, 16};
constexpr Load kDestinationIpv6{NFT_PAYLOAD_NETWORK_HEADER, 24, 16};

// The expressions of one rule.
class Rule {
 public:
  explicit Rule(Transaction* transaction) : transaction_(transaction) {}

  void MetaIs(uint32_t key, const void* value, size_t length) {
    Expression("meta", [&] {
      transaction_->PutNumber(NFTA_META_DREG, NFT_REG32_00);
      transaction_->PutNumber(NFTA_META_KEY, key);
    });
    Expression("cmp", [&] {
      transaction_->PutNumber(NFTA_CMP_SREG, NFT_REG32_00);
      transaction_->PutNumber(NFTA_CMP_OP, NFT_CMP_EQ);
      transaction_->PutNested(NFTA_CMP_DATA, [&] { transaction_->Put(NFTA_DATA_VALUE, value, length); });
    });
  }
  void MetaIs(uint32_t key, uint8_t value) { MetaIs(key, &value, sizeof value); }

  // A port fills its register of 4 bytes with zeros, and so does the key of an element.
  void IsInSet(HoldSetNumber number, std::initializer_list<Load> loads) {
    uint32_t target = NFT_REG32_00;
    for (const Load& load : loads) {
      Expression("payload", [&] {
        transaction_->PutNumber(NFTA_PAYLOAD_DREG, target);
        transaction_->PutNumber(NFTA_PAYLOAD_BASE, load.base);
        transaction_->PutNumber(NFTA_PAYLOAD_OFFSET, load.offset);
        transaction_->PutNumber(NFTA_PAYLOAD_LEN, load.length);
      });
      target += (load.length + 3) / 4;
    }
    Expression("lookup", [&] {
      transaction_->PutText(NFTA_LOOKUP_SET, kHoldSetList[number].name);
      transaction_->PutNumber(NFTA_LOOKUP_SREG, NFT_REG32_00);
      transaction_->PutNumber(NFTA_LOOKUP_SET_ID, static_cast<uint32_t>(number) + 1);
    });
  }

  void Untracked() {
    Expression("notrack", [] {});
  }

  void Verdict(uint32_t code) {
    Expression("immediate", [&] {
      transaction_->PutNumber(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      transaction_->PutNested(NFTA_IMMEDIATE_DATA, [&] {
        transaction_->PutNested(NFTA_DATA_VERDICT, [&] { transaction_->PutNumber(NFTA_VERDICT_CODE, code); });
      });
    });
  }

 private:
  template <typename Data>
  void Expression(const char* name, Data data) {
    transaction_->PutNested(NFTA_LIST_ELEM, [&] {
      transaction_->PutText(NFTA_EXPR_NAME, name);
      transaction_->PutNested(NFTA_EXPR_DATA, data);
    });
  }

  Transaction* transaction_;
};

void Begin(Transaction* transaction, uint16_t message, uint16_t flags) {
  transaction->Begin(NfTables(message), flags, kHoldFamily);
}

void PutTable(Transaction* transaction) {
  // Without NLM_F_EXCL a second creation would append the rules again.
  Begin(transaction, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
  transaction->PutText(NFTA_TABLE_NAME, kHoldTable);
  transaction->PutNumber(NFTA_TABLE_FLAGS, 0);
  transaction->End();
}

void PutSet(Transaction* transaction, HoldSetNumber number) {
  const HoldSet& set = kHoldSetList[number];
  bool concatenated = set.fields[1] != 0;
  Begin(transaction, NFT_MSG_NEWSET, NLM_F_CREATE);
  transaction->PutText(NFTA_SET_TABLE, kHoldTable);
  transaction->PutText(NFTA_SET_NAME, set.name);
  transaction->PutNumber(NFTA_SET_FLAGS, concatenated ? kSetFlagTimeout | kSetFlagConcat : kSetFlagTimeout);
  transaction->PutNumber(NFTA_SET_KEY_TYPE, set.key_type);
  transaction->PutNumber(NFTA_SET_KEY_LEN, set.key_bytes);
  // By which the rules of the same transaction find it.
  transaction->PutNumber(NFTA_SET_ID, static_cast<uint32_t>(number) + 1);
  if (concatenated) {
    transaction->PutNested(NFTA_SET_DESC, [&] {
      transaction->PutNested(kDescConcat, [&] {
        for (uint32_t length : set.fields) {
          transaction->PutNested(NFTA_LIST_ELEM, [&] { transaction->PutNumber(kFieldLength, length); });
        }
      });
    });
  }
  transaction->PutLongNumber(NFTA_SET_TIMEOUT, kDefaultTimeoutMs);
  transaction->End();
}

void PutChain(Transaction* transaction, const char* name, uint32_t hook) {
  Begin(transaction, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
  transaction->PutText(NFTA_CHAIN_TABLE, kHoldTable);
  transaction->PutText(NFTA_CHAIN_NAME, name);
  transaction->PutNested(NFTA_CHAIN_HOOK, [&] {
    transaction->PutNumber(NFTA_HOOK_HOOKNUM, hook);
    transaction->PutNumber(NFTA_HOOK_PRIORITY, kPriorityRaw);
  });
  transaction->PutNumber(NFTA_CHAIN_POLICY, NF_ACCEPT);
  transaction->PutText(NFTA_CHAIN_TYPE, "filter");
  transaction->End();
}

template <typename Content>
void PutRule(Transaction* transaction, const char* chain, Content content) {
  Begin(transaction, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
  transaction->PutText(NFTA_RULE_TABLE, kHoldTable);
  transaction->PutText(NFTA_RULE_CHAIN, chain);
  transaction->PutNested(NFTA_RULE_EXPRESSIONS, [&] {
    Rule rule(transaction);
    content(rule);
  });
  transaction->End();
}

void PutRules(Transaction* transaction, const char* chain, Direction direction) {
  bool in = direction == Direction::kIn;
  Load local_port = in ? kDestinationPort : kSourcePort;
  Load peer_port = in ? kSourcePort : kDestinationPort;
  PutRule(transaction, chain, [](Rule& rule) {
    // The one value in host order.
    rule.MetaIs(NFT_META_MARK, &kHoldMark, sizeof kHoldMark);
    // Connection tracking would call a FIN of a connection it does not know invalid.
    rule.Untracked();
    rule.Verdict(NF_ACCEPT);
  });
  PutRule(transaction, chain, [&](Rule& rule) {
    rule.MetaIs(NFT_META_L4PROTO, IPPROTO_TCP);
    rule.IsInSet(kHeldPorts, {local_port});
    rule.Verdict(NF_DROP);
  });
  PutRule(transaction, chain, [&](Rule& rule) {
    rule.MetaIs(NFT_META_NFPROTO, NFPROTO_IPV4);
    rule.MetaIs(NFT_META_L4PROTO, IPPROTO_TCP);
    rule.IsInSet(kHeldIpv4, {in ? kDestinationIpv4 : kSourceIpv4, local_port, in ? kSourceIpv4 : kDestinationIpv4, peer_port});
    rule.Verdict(NF_DROP);
  });
  PutRule(transaction, chain, [&](Rule& rule) {
    rule.MetaIs(NFT_META_NFPROTO, NFPROTO_IPV6);
    rule.MetaIs(NFT_META_L4PROTO, IPPROTO_TCP);
    rule.IsInSet(kHeldIpv6, {in ? kDestinationIpv6 : kSourceIpv6, local_port, in ? kSourceIpv6 : kDestinationIpv6, peer_port});
    rule.Verdict(NF_DROP);
  });
}

}  // namespace

uint16_t NfTables(uint16_t message) { return static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message); }

std::string PortKey(int port) {
  uint16_t number = htons(static_cast<uint16_t>(port));
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

// local address . local port, 2 zeros . peer address . peer port, 2 zeros
std::string TupleKey(const Tuple& tuple) {
  size_t skipped = tuple.CarriesIpv4() ? 12 : 0;
  std::string key;
  for (const Tuple::End* end : {&tuple.local, &tuple.peer}) {
    key.append(reinterpret_cast<const char*>(end->address) + skipped, sizeof end->address - skipped);
    key.append(reinterpret_cast<const char*>(end->port), sizeof end->port).append(2, '\0');
  }
  return key;
}

int ToPort(const std::string& key) {
  uint16_t number;
  std::memcpy(&number, key.data(), sizeof number);
  return ntohs(number);
}

Tuple ToTuple(const std::string& key, bool ipv4) {
  Tuple tuple{};
  size_t length = ipv4 ? 4 : 16;
  const char* from = key.data();
  for (Tuple::End* end : {&tuple.local, &tuple.peer}) {
    if (ipv4) std::memset(end->address + 10, 0xff, 2);
    std::memcpy(end->address + sizeof end->address - length, from, length);
    std::memcpy(end->port, from + length, sizeof end->port);
    from += length + 4;
  }
  return tuple;
}

void PutHoldTable(Transaction* transaction) {
  PutTable(transaction);
  for (int number = 0; number < kHoldSets; number++) PutSet(transaction, static_cast<HoldSetNumber>(number));
  PutChain(transaction, "pre", NF_INET_PRE_ROUTING);
  PutChain(transaction, "out", NF_INET_LOCAL_OUT);
  PutRules(transaction, "pre", Direction::kIn);
  PutRules(transaction, "out", Direction::kOut);
  transaction->Close();
}

void PutHoldTableRemoval(Transaction* transaction) {
  Begin(transaction, NFT_MSG_DELTABLE, 0);
  transaction->PutText(NFTA_TABLE_NAME, kHoldTable);
  transaction->End();
  transaction->Close();
}

}  // namespace tsunagi

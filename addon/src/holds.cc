#include "holds.h"

#include <endian.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace tsunagi {
namespace {

using Listed = HeldKeys::value_type;

// @note an attribute with all elements of a message has 16 bits for its length.
constexpr size_t kMaxElementBytes = 60'000;

// Each try starts from what is in the sets then.
constexpr int kMaxTries = 1000;

void ReadElement(const Attributes& attributes, const HoldSet& set, Listed* listed) {
  std::string key;
  uint64_t left = 0;
  attributes.ForEach([&](const Attributes::Attribute& attribute) {
    if (attribute.type == NFTA_SET_ELEM_KEY) {
      Attributes(attribute.data, attribute.length).ForEach([&](const Attributes::Attribute& value) {
        if (value.type == NFTA_DATA_VALUE) key.assign(reinterpret_cast<const char*>(value.data), value.length);
      });
    } else if (attribute.type == NFTA_SET_ELEM_EXPIRATION && attribute.length == sizeof left) {
      std::memcpy(&left, attribute.data, sizeof left);
    }
  });
  if (key.size() >= set.key_bytes) (*listed)[key.substr(0, set.key_bytes)] = static_cast<double>(be64toh(left));
}

int List(NetfilterSocket* netlink, const HoldSet& set, Listed* listed) {
  Messages request;
  request.Begin(NfTables(NFT_MSG_GETSETELEM), NLM_F_DUMP, kHoldFamily);
  request.PutText(NFTA_SET_ELEM_LIST_TABLE, kHoldTable);
  request.PutText(NFTA_SET_ELEM_LIST_SET, set.name);
  request.End();
  return netlink->Ask(request, [&](const Attributes& attributes) {
    attributes.ForEach([&](const Attributes::Attribute& attribute) {
      if (attribute.type != NFTA_SET_ELEM_LIST_ELEMENTS) return;
      Attributes(attribute.data, attribute.length).ForEach([&](const Attributes::Attribute& element) {
        ReadElement(Attributes(element.data, element.length), set, listed);
      });
    });
  });
}

// Puts the keys of [from, end) that `wanted` accepts as one message, as far as it has room: returns where it stopped.
template <typename Wanted>
size_t PutElements(Transaction* transaction, const HoldSet& set, const std::vector<std::string>& keys, size_t from, size_t end,
                   double timeout_ms, Wanted wanted) {
  bool add = timeout_ms > 0;
  transaction->Begin(NfTables(add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM), add ? NLM_F_CREATE : 0, kHoldFamily);
  transaction->PutText(NFTA_SET_ELEM_LIST_TABLE, kHoldTable);
  transaction->PutText(NFTA_SET_ELEM_LIST_SET, set.name);
  size_t index = from;
  transaction->PutNested(NFTA_SET_ELEM_LIST_ELEMENTS, [&] {
    for (; index < end && transaction->MessageBytes() < kMaxElementBytes; index++) {
      const std::string& key = keys[index];
      if (!wanted(key)) continue;
      transaction->PutNested(NFTA_LIST_ELEM, [&] {
        transaction->PutNested(NFTA_SET_ELEM_KEY, [&] { transaction->Put(NFTA_DATA_VALUE, key.data(), key.size()); });
        if (add) transaction->PutLongNumber(NFTA_SET_ELEM_TIMEOUT, static_cast<uint64_t>(timeout_ms));
      });
    }
  });
  transaction->End();
  return index;
}

// One pass over the elements of a hold: those that are there are deleted, and with a time all are added. Deleting first because a kernel
// before 6.12 keeps the old time of an element that is added again; knowing what is there because deleting what is not fails, and the
// message that forgives it came with 6.3. Bound to the generation that was looked at.
class Pass {
 public:
  Pass(NetfilterSocket* netlink, double timeout_ms) : netlink_(netlink), timeout_ms_(timeout_ms) {}

  // 0 or an errno; what was committed before it stays.
  int Run(const HoldKeys& keys) {
    if (int error = netlink_->ReadGeneration(&generation_)) return error;
    transaction_ = Transaction(generation_);
    for (int number = 0; number < kHoldSets; number++) {
      if (keys[number].empty()) continue;
      if (int error = RunSet(kHoldSetList[number], keys[number])) return error;
    }
    return Commit();
  }

  size_t Deleted() const { return deleted_; }

 private:
  int RunSet(const HoldSet& set, const std::vector<std::string>& keys) {
    Listed listed;
    if (int error = List(netlink_, set, &listed)) return error;
    auto present = [&](const std::string& key) { return listed.count(key) != 0; };
    size_t step = kMaxElementBytes / (set.key_bytes + kElementOverhead);
    for (size_t from = 0; from < keys.size(); from += step) {
      size_t end = std::min(keys.size(), from + step);
      auto there = static_cast<size_t>(std::count_if(keys.begin() + static_cast<ptrdiff_t>(from),
                                                     keys.begin() + static_cast<ptrdiff_t>(end), present));
      if (there == 0 && timeout_ms_ == 0) continue;
      if (transaction_.Bytes().size() + 2 * kMaxMessageBytes > netlink_->Capacity()) {
        if (int error = Commit()) return error;
      }
      if (there != 0) PutElements(&transaction_, set, keys, from, end, 0, present);
      if (timeout_ms_ != 0) PutElements(&transaction_, set, keys, from, end, timeout_ms_, [](const std::string&) { return true; });
      pending_ += there;
      empty_ = false;
    }
    return 0;
  }

  int Commit() {
    if (empty_) return 0;
    transaction_.Close();
    int error = netlink_->Commit(transaction_);
    if (error == 0) deleted_ += pending_;
    transaction_ = Transaction(++generation_);
    pending_ = 0;
    empty_ = true;
    // An element expired since it was listed. From the list itself it means that there is no table.
    return error == ENOENT ? EAGAIN : error;
  }

  // The headers around a key, with its time and padding.
  static constexpr size_t kElementOverhead = 28;
  static constexpr size_t kMaxMessageBytes = kMaxElementBytes + 200;

  NetfilterSocket* netlink_;
  double timeout_ms_;
  uint32_t generation_ = 0;
  Transaction transaction_;
  size_t pending_ = 0;
  size_t deleted_ = 0;
  bool empty_ = true;
};

// Another process changed the ruleset in the same moment.
bool IsWorthAnotherTry(int error) {
  return error == EAGAIN || error == EBUSY || error == EINTR || error == ERESTART || error == ENOBUFS;
}

// EAGAIN when something changed meanwhile.
int ListAll(NetfilterSocket* netlink, HeldKeys* listed) {
  uint32_t before = 0;
  uint32_t after = 0;
  if (int error = netlink->ReadGeneration(&before)) return error;
  for (int number = 0; number < kHoldSets; number++) {
    (*listed)[number].clear();
    if (int error = List(netlink, kHoldSetList[number], &(*listed)[number])) return error;
  }
  if (int error = netlink->ReadGeneration(&after)) return error;
  return before == after ? 0 : EAGAIN;
}

}  // namespace

HoldKeys ToHoldKeys(const int* ports, size_t port_count, const Tuple* tuples, size_t tuple_count) {
  HoldKeys keys;
  for (size_t index = 0; index < port_count; index++) keys[kHeldPorts].push_back(PortKey(ports[index]));
  for (size_t index = 0; index < tuple_count; index++) {
    keys[tuples[index].CarriesIpv4() ? kHeldIpv4 : kHeldIpv6].push_back(TupleKey(tuples[index]));
  }
  for (auto& list : keys) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  }
  return keys;
}

template <typename Attempt>
int Holds::Try(Attempt attempt) {
  int error = EAGAIN;
  for (int tries = 0; tries < kMaxTries && IsWorthAnotherTry(error); tries++) {
    if (!kept_) {
      auto opened = std::make_unique<NetfilterSocket>();
      if (int failed = opened->Open()) return failed;
      kept_ = std::move(opened);
    }
    error = attempt(kept_.get());
    if (error != 0 && error != ERESTART && error != EAGAIN) kept_.reset();
  }
  return error;
}

int Holds::Create() {
  Transaction transaction;
  PutHoldTable(&transaction);
  int error = Try([&](NetfilterSocket* netlink) { return netlink->Commit(transaction); });
  // A kind of expression or chain that is not there.
  return error == ENOENT ? EOPNOTSUPP : error;
}

int Holds::Remove() {
  Transaction transaction;
  PutHoldTableRemoval(&transaction);
  return Try([&](NetfilterSocket* netlink) { return netlink->Commit(transaction); });
}

int Holds::Change(const HoldKeys& keys, double timeout_ms, size_t* deleted) {
  return Try([&](NetfilterSocket* netlink) {
    Pass pass(netlink, timeout_ms);
    int error = pass.Run(keys);
    *deleted += pass.Deleted();
    return error;
  });
}

int Holds::Add(const HoldKeys& keys, double timeout_ms) {
  size_t renewed = 0;
  return Change(keys, timeout_ms, &renewed);
}

int Holds::Release(const HoldKeys& keys, size_t* released) {
  *released = 0;
  int error = Change(keys, 0, released);
  return error == ENOENT ? 0 : error;
}

int Holds::List(HeldKeys* held) {
  int error = Try([&](NetfilterSocket* netlink) { return ListAll(netlink, held); });
  return error == ENOENT ? 0 : error;
}

}  // namespace tsunagi

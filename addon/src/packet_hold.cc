// holdCreate(), holdAdd(), holdRelease(), holdList(), holdRemove(): the elements of the table `inet tsunagi`, by netlink.

#include <endian.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "addon.h"
#include "arguments.h"
#include "connection_record.h"
#include "hold_table.h"
#include "napi_error.h"
#include "netlink.h"

namespace tsunagi {
namespace {

// @note an attribute with all elements of a message has 16 bits for its length.
constexpr size_t kMaxElementBytes = 60'000;

// Each try starts from what is in the sets then.
constexpr int kMaxTries = 1000;

using Keys = std::array<std::vector<std::string>, kHoldSets>;
// A key and how many milliseconds it has left.
using Listed = std::unordered_map<std::string, double>;

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
  int Run(const Keys& keys) {
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

// Calls `attempt` with the socket of this environment until it is worth no other try: 0 or an errno.
template <typename Attempt>
int Try(Napi::Env env, Attempt attempt) {
  std::shared_ptr<NetfilterSocket>& kept = env.GetInstanceData<AddonData>()->netfilter;
  int error = EAGAIN;
  for (int tries = 0; tries < kMaxTries && IsWorthAnotherTry(error); tries++) {
    if (!kept) {
      auto opened = std::make_shared<NetfilterSocket>();
      if (int failed = opened->Open()) return failed;
      kept = opened;
    }
    error = attempt(kept.get());
    if (error != 0 && error != ERESTART && error != EAGAIN) kept.reset();
  }
  return error;
}

int Change(Napi::Env env, const Keys& keys, double timeout_ms, size_t* deleted) {
  return Try(env, [&](NetfilterSocket* netlink) {
    Pass pass(netlink, timeout_ms);
    int error = pass.Run(keys);
    *deleted += pass.Deleted();
    return error;
  });
}

Napi::Value ThrowHold(Napi::Env env, int error) {
  switch (error) {
    case EPERM:
    case EACCES:
      return ThrowErrnoBecause(env, error, "nftables", "holding packets needs CAP_NET_ADMIN in this network namespace");
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
    case EOPNOTSUPP:
      return ThrowErrnoBecause(env, error, "nftables", "this kernel has no nftables, or not for the inet family");
    case ENOENT:
      return ThrowErrnoBecause(env, error, "nftables", "there is no table inet tsunagi");
    default:
      return ThrowErrno(env, error, "nftables");
  }
}

template <typename Put>
int Commit(Napi::Env env, Put put) {
  Transaction transaction;
  put(&transaction);
  return Try(env, [&](NetfilterSocket* netlink) { return netlink->Commit(transaction); });
}

Napi::Value HoldCreate(const Napi::CallbackInfo& info) {
  int error = Commit(info.Env(), PutHoldTable);
  // A kind of expression or chain that is not there.
  if (error == ENOENT) error = EOPNOTSUPP;
  if (error != 0 && error != EEXIST) return ThrowHold(info.Env(), error);
  return Napi::Boolean::New(info.Env(), error == 0);
}

Napi::Value HoldRemove(const Napi::CallbackInfo& info) {
  int error = Commit(info.Env(), PutHoldTableRemoval);
  if (error != 0 && error != ENOENT) return ThrowHold(info.Env(), error);
  return Napi::Boolean::New(info.Env(), error == 0);
}

// False with an exception pending.
bool ToKeys(const Napi::CallbackInfo& info, Keys* keys) {
  for (int port : FdList(info[0])) {
    if (port < 1 || port > UINT16_MAX) {
      ThrowRange(info.Env(), "The \"ports\" argument must hold numbers from 1 to 65535");
      return false;
    }
    (*keys)[kHeldPorts].push_back(PortKey(port));
  }
  Napi::Uint8Array bytes = info[1].As<Napi::Uint8Array>();
  if (bytes.ByteLength() % sizeof(Tuple) != 0) {
    ThrowRange(info.Env(), "The \"tuples\" argument must hold 36 bytes for each connection");
    return false;
  }
  const auto* tuples = reinterpret_cast<const Tuple*>(bytes.Data());
  for (size_t index = 0; index < bytes.ByteLength() / sizeof(Tuple); index++) {
    (*keys)[tuples[index].CarriesIpv4() ? kHeldIpv4 : kHeldIpv6].push_back(TupleKey(tuples[index]));
  }
  for (auto& list : *keys) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  }
  return true;
}

Napi::Value HoldAdd(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"ports", Kind::kFds}, {"tuples", Kind::kBytes}, {"timeoutMs", Kind::kTimeout}})) return {};
  double timeout_ms = std::trunc(info[2].As<Napi::Number>().DoubleValue());
  if (timeout_ms < 1) return ThrowRange(info.Env(), "The \"timeoutMs\" argument must be at least 1");
  Keys keys;
  if (!ToKeys(info, &keys)) return {};
  size_t renewed = 0;
  if (int error = Change(info.Env(), keys, timeout_ms, &renewed)) return ThrowHold(info.Env(), error);
  return info.Env().Undefined();
}

Napi::Value HoldRelease(const Napi::CallbackInfo& info) {
  if (!Accept(info, {{"ports", Kind::kFds}, {"tuples", Kind::kBytes}})) return {};
  Keys keys;
  if (!ToKeys(info, &keys)) return {};
  size_t released = 0;
  int error = Change(info.Env(), keys, 0, &released);
  // Without a table nothing is held.
  if (error != 0 && error != ENOENT) return ThrowHold(info.Env(), error);
  return Napi::Number::New(info.Env(), static_cast<double>(released));
}

// EAGAIN when something changed meanwhile.
int ListAll(NetfilterSocket* netlink, std::array<Listed, kHoldSets>* listed) {
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

Napi::Value HoldList(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::array<Listed, kHoldSets> listed;
  int error = Try(env, [&](NetfilterSocket* netlink) { return ListAll(netlink, &listed); });
  if (error != 0 && error != ENOENT) return ThrowHold(env, error);
  size_t port_count = listed[kHeldPorts].size();
  size_t tuple_count = listed[kHeldIpv4].size() + listed[kHeldIpv6].size();
  Napi::Int32Array ports = Napi::Int32Array::New(env, port_count);
  Napi::Uint8Array tuples = Napi::Uint8Array::New(env, tuple_count * sizeof(Tuple));
  Napi::Float64Array ports_left = Napi::Float64Array::New(env, port_count);
  Napi::Float64Array tuples_left = Napi::Float64Array::New(env, tuple_count);
  size_t index = 0;
  for (const auto& [key, left] : listed[kHeldPorts]) {
    ports.Data()[index] = ToPort(key);
    ports_left.Data()[index++] = left;
  }
  index = 0;
  for (HoldSetNumber number : {kHeldIpv4, kHeldIpv6}) {
    for (const auto& [key, left] : listed[number]) {
      Tuple tuple = ToTuple(key, number == kHeldIpv4);
      std::memcpy(tuples.Data() + index * sizeof tuple, &tuple, sizeof tuple);
      tuples_left.Data()[index++] = left;
    }
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("ports", ports);
  result.Set("portsLeftMs", ports_left);
  result.Set("tuples", tuples);
  result.Set("tuplesLeftMs", tuples_left);
  return result;
}

}  // namespace

void InitPacketHold(Napi::Env env, Napi::Object exports) {
  Export<HoldCreate>(env, exports, "holdCreate");
  Export<HoldAdd>(env, exports, "holdAdd");
  Export<HoldRelease>(env, exports, "holdRelease");
  Export<HoldList>(env, exports, "holdList");
  Export<HoldRemove>(env, exports, "holdRemove");
}

}  // namespace tsunagi

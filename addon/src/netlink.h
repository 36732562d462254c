#pragma once

#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "unique_fd.h"

namespace tsunagi {

// Messages of nf_tables one behind the other, as one sendmsg(2) takes them.
//
//     nlmsghdr | nfgenmsg | attribute | attribute { attribute | attribute { … } } | …
//
// Lengths and types are in host order, values in network order. Everything is padded to 4 bytes.
class Messages {
 public:
  void Begin(uint16_t type, uint16_t flags, uint8_t family, uint16_t resource = 0);
  void End();

  void Put(uint16_t type, const void* data, size_t length);
  void PutText(uint16_t type, const std::string& text) { Put(type, text.c_str(), text.size() + 1); }
  void PutNumber(uint16_t type, uint32_t number);
  void PutLongNumber(uint16_t type, uint64_t number);
  // What `content` puts is nested in an attribute of this type.
  template <typename Content>
  void PutNested(uint16_t type, Content content) {
    size_t start = bytes_.size();
    Put(static_cast<uint16_t>(type | NLA_F_NESTED), nullptr, 0);
    content();
    auto length = static_cast<uint16_t>(bytes_.size() - start);
    reinterpret_cast<nlattr*>(&bytes_[start])->nla_len = length;
  }

  const std::vector<uint8_t>& Bytes() const { return bytes_; }
  // Since Begin().
  size_t MessageBytes() const { return bytes_.size() - message_; }
  // Asks for an answer to the last message.
  void Acknowledge() { reinterpret_cast<nlmsghdr*>(&bytes_[message_])->nlmsg_flags |= NLM_F_ACK; }

 private:
  std::vector<uint8_t> bytes_;
  size_t message_ = 0;
};

// A change that happens as a whole or not at all.
class Transaction : public Messages {
 public:
  // With a generation other than 0: only if nothing has changed since that one, or else ERESTART.
  explicit Transaction(uint32_t generation = 0);
  // To be called once, behind the last message.
  void Close();
};

// Attributes of a received message; what is malformed ends them.
class Attributes {
 public:
  Attributes(const uint8_t* data, size_t length) : data_(data), length_(length) {}
  struct Attribute {
    uint16_t type;
    const uint8_t* data;
    size_t length;
  };
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (size_t at = 0; at + NLA_HDRLEN <= length_;) {
      const auto* header = reinterpret_cast<const nlattr*>(data_ + at);
      if (header->nla_len < NLA_HDRLEN || header->nla_len > length_ - at) return;
      visit(Attribute{static_cast<uint16_t>(header->nla_type & NLA_TYPE_MASK), data_ + at + NLA_HDRLEN,
                      static_cast<size_t>(header->nla_len - NLA_HDRLEN)});
      at += NLA_ALIGN(header->nla_len);
    }
  }

 private:
  const uint8_t* data_;
  size_t length_;
};

// All functions give 0 or an errno. After an error the socket may hold answers that nobody has read: it is of no more use.
// @note closing it waits several milliseconds for what was deleted through it or elsewhere (nft_rcv_nl_event() in
// net/netfilter/nf_tables_api.c, Linux 6.18): between a release and what follows it there is no time for that, so it is kept.
class NetfilterSocket {
 public:
  int Open();
  // One transaction, already closed. What it asks for has happened when this returns.
  int Commit(const Transaction& transaction);
  // How long a transaction may be here.
  size_t Capacity() const { return capacity_; }
  // `request` is one message with NLM_F_DUMP or NLM_F_ACK; `visit` is called with the attributes of each answer. What changes meanwhile
  // makes it incomplete, and the kernel does not always say so: only the generation does.
  int Ask(const Messages& request, const std::function<void(const Attributes&)>& visit);
  // The number that every change by anyone increases by one.
  int ReadGeneration(uint32_t* generation);

 private:
  int Send(const Messages& messages);
  int ReadAnswers(bool* acknowledged);

  UniqueFd fd_;
  size_t capacity_ = 0;
};

}  // namespace tsunagi

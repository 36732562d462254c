#pragma once

// A TCP connection as data, in the form in which it passes between JavaScript and this addon: a row of numbers, a tuple of addresses,
// and its bytes. JavaScript keeps the rows of many connections one behind the other.

#include <netinet/in.h>
#include <sys/socket.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tsunagi {

// Columns of repair.ts CONNECTION_COLUMN, in its order. NaN is a figure that the kernel did not tell.
enum Column : size_t {
  kRefusal,
  kErrno,
  kState,
  kFamily,
  kReceiveSequence,
  kSendSequence,
  kReceiveQueue,
  kSent,
  kUnsent,
  kOwnFin,
  kPeerFin,
  kMss,
  kSendScale,
  kReceiveScale,
  kSack,
  kTimestamps,
  kTimestamp,
  kWindowBytes,
  kWindow0,
  kSendBuffer = kWindow0 + 8,
  kReceiveBuffer,
  kBufferLock,
  kReuseAddress,
  kCongestion,
  kDevice,
  kScope,
  kLinger,
  kKeepAlive,
  kKeepAliveIdle,
  kKeepAliveInterval,
  kKeepAliveCount,
  kNoDelay,
  kUserTimeout,
  kPriority,
  kMark,
  kTos,
  kTtl,
  kTrafficClass,
  kHopLimit,
  kColumns,
};

// repair.ts CONNECTION_REFUSALS, in its order.
enum Refusal {
  kAccepted,
  kNotTcp,
  kMptcp,
  kUpperLayer,
  kAuthenticated,
  kZeroCopy,
  kUrgent,
  kUnfitState,
  kPeekOffset,
  kSocketError,
  kNotInRepair,
  kCallFailed,
  kQueueMoved,
};

// Whether our FIN is in the send queue, and if so, whether it has been transmitted.
enum OwnFin { kNoFin, kFinUnsent, kFinSent };

// include/net/tcp_states.h
enum TcpState { kEstablished = 1, kFinWait1 = 4, kFinWait2 = 5, kCloseWait = 8 };

// Local and peer end, in network byte order; an IPv4 address in its mapped form, whatever the family of the socket.
struct Tuple {
  struct End {
    uint8_t address[16];
    uint8_t port[2];
  } local, peer;

  bool CarriesIpv4() const { return IsMapped(local) && IsMapped(peer); }

 private:
  static bool IsMapped(const End& end) {
    static constexpr uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return std::memcmp(end.address, kPrefix, sizeof kPrefix) == 0;
  }
};
static_assert(sizeof(Tuple) == 36, "TUPLE_BYTES in repair.ts");

// What a snapshot says may come from a file: no number of it is used before it is known to fit.
inline uint32_t Unsigned(double number) { return number >= 0 && number <= UINT32_MAX ? static_cast<uint32_t>(number) : 0; }
inline int Signed(double number) { return number >= INT32_MIN && number <= INT32_MAX ? static_cast<int>(number) : 0; }

// False with errno when the socket has no two TCP/IP ends. `scope` is the interface of a link-local address, or 0.
bool ReadTuple(int fd, Tuple* tuple, int* family, uint32_t* scope);

// One end as bind(2), connect(2) and sendto(2) take it; returns the length.
socklen_t ToSockaddr(const Tuple::End& end, int family, uint32_t scope, sockaddr_storage* storage);

}  // namespace tsunagi

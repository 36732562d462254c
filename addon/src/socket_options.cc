#include "socket_options.h"

#include <linux/tcp.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "unique_fd.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

namespace tsunagi {
namespace {

constexpr double kUntold = std::numeric_limits<double>::quiet_NaN();

// include/uapi/linux/sock_diag.h SK_MEMINFO_…: both buffer sizes in one call.
constexpr size_t kMemInfoReceiveBuffer = 1;
constexpr size_t kMemInfoSendBuffer = 3;
constexpr size_t kMemInfoFigures = 9;

constexpr size_t kCongestionNameBytes = 16;

enum class On { kEverySocket, kKeptAlive, kIpv4Packets, kIpv6Packets };

// Every option that is one int. Each costs a system call for each connection: the times of a keep-alive that is off are left out, since
// whoever turns it on sets them.
struct IntOption {
  Column column;
  int level;
  int option;
  On on;
};
constexpr IntOption kIntOptions[] = {
    {kKeepAlive, SOL_SOCKET, SO_KEEPALIVE, On::kEverySocket},
    {kKeepAliveIdle, IPPROTO_TCP, TCP_KEEPIDLE, On::kKeptAlive},
    {kKeepAliveInterval, IPPROTO_TCP, TCP_KEEPINTVL, On::kKeptAlive},
    {kKeepAliveCount, IPPROTO_TCP, TCP_KEEPCNT, On::kKeptAlive},
    {kNoDelay, IPPROTO_TCP, TCP_NODELAY, On::kEverySocket},
    {kUserTimeout, IPPROTO_TCP, TCP_USER_TIMEOUT, On::kEverySocket},
    // Setting IP_TOS also sets the priority: it comes first.
    {kTos, IPPROTO_IP, IP_TOS, On::kIpv4Packets},
    {kTtl, IPPROTO_IP, IP_TTL, On::kIpv4Packets},
    {kTrafficClass, IPPROTO_IPV6, IPV6_TCLASS, On::kIpv6Packets},
    {kHopLimit, IPPROTO_IPV6, IPV6_UNICAST_HOPS, On::kIpv6Packets},
    {kPriority, SOL_SOCKET, SO_PRIORITY, On::kEverySocket},
    {kMark, SOL_SOCKET, SO_MARK, On::kEverySocket},
};

bool Applies(On on, bool ipv4, bool kept_alive) {
  switch (on) {
    case On::kKeptAlive:
      return kept_alive;
    case On::kIpv4Packets:
      return ipv4;
    case On::kIpv6Packets:
      return !ipv4;
    case On::kEverySocket:
      break;
  }
  return true;
}

void ReadLinger(int fd, double* row) {
  linger value{};
  if (GetOption(fd, SOL_SOCKET, SO_LINGER, &value)) row[kLinger] = value.l_onoff != 0 ? value.l_linger : -1;
}

double ReadName(int fd, int level, int option, Names* names) {
  char name[std::max<size_t>(IFNAMSIZ, kCongestionNameBytes) + 1] = {};
  socklen_t length = sizeof name - 1;
  return getsockopt(fd, level, option, name, &length) == 0 && name[0] != '\0' ? names->Add(name) : -1;
}

void ReadBuffers(int fd, double* row) {
  uint32_t figures[kMemInfoFigures] = {};
  if (GetOption(fd, SOL_SOCKET, SO_MEMINFO, &figures)) {
    row[kReceiveBuffer] = figures[kMemInfoReceiveBuffer];
    row[kSendBuffer] = figures[kMemInfoSendBuffer];
  }
  int lock = 0;
  if (GetOption(fd, SOL_SOCKET, SO_BUF_LOCK, &lock)) row[kBufferLock] = lock;
}

bool SetName(int fd, int level, int option, const std::string& name) {
  return setsockopt(fd, level, option, name.c_str(), static_cast<socklen_t>(name.size() + 1)) == 0;
}

// The kernel doubles what it is told. Without CAP_NET_ADMIN in the first user namespace only the smaller limit of sysctl can be had.
void SetBuffer(int fd, int force, int ordinary, double bytes) {
  int half = Signed(bytes / 2);
  if (!SetOption(fd, SOL_SOCKET, force, half)) SetOption(fd, SOL_SOCKET, ordinary, half);
}

}  // namespace

double Names::Add(const std::string& name) {
  auto found = std::find(names_.begin(), names_.end(), name);
  if (found == names_.end()) found = names_.insert(names_.end(), name);
  return static_cast<double>(found - names_.begin());
}

std::string Names::At(double place) const { return place >= 0 && place < names_.size() ? names_[static_cast<size_t>(place)] : ""; }

void ReadOptions(int fd, bool ipv4, double* row, Names* names) {
  for (const IntOption& option : kIntOptions) {
    int value = 0;
    bool told = Applies(option.on, ipv4, row[kKeepAlive] == 1) && GetOption(fd, option.level, option.option, &value);
    row[option.column] = told ? value : kUntold;
  }
  ReadLinger(fd, row);
  ReadBuffers(fd, row);
  row[kCongestion] = ReadName(fd, IPPROTO_TCP, TCP_CONGESTION, names);
  row[kDevice] = ReadName(fd, SOL_SOCKET, SO_BINDTODEVICE, names);
}

bool OptionDefaults::Read(int family) {
  UniqueFd fresh(socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fresh) return false;
  std::fill(row, row + kColumns, kUntold);
  row[kFamily] = family;
  ReadOptions(fresh.Get(), family == AF_INET, row, &names);
  // Of every option, since an IPv6 socket may turn out to carry IPv4 packets.
  for (const IntOption& option : kIntOptions) {
    int value = 0;
    if (GetOption(fresh.Get(), option.level, option.option, &value)) row[option.column] = value;
  }
  return true;
}

int WriteOptions(int fd, bool ipv4, const double* row, const Names& names, const OptionDefaults& defaults) {
  int refused = 0;
  std::string device = names.At(row[kDevice]);
  if (!device.empty()) refused += !SetName(fd, SOL_SOCKET, SO_BINDTODEVICE, device);
  for (const IntOption& option : kIntOptions) {
    double wanted = row[option.column];
    if (std::isnan(wanted) || wanted == defaults.row[option.column]) continue;
    if (Applies(option.on, ipv4, row[kKeepAlive] == 1)) refused += !SetOption(fd, option.level, option.option, Signed(wanted));
  }
  // An IPv6 socket that carries IPv4 packets cannot be without them, whatever net.ipv6.bindv6only says.
  if (ipv4 && row[kFamily] == AF_INET6) refused += !SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (row[kLinger] >= 0) refused += !SetOption(fd, SOL_SOCKET, SO_LINGER, linger{1, Signed(row[kLinger])});
  std::string congestion = names.At(row[kCongestion]);
  if (!congestion.empty() && congestion != defaults.names.At(defaults.row[kCongestion])) {
    refused += !SetName(fd, IPPROTO_TCP, TCP_CONGESTION, congestion);
  }
  return refused;
}

void WriteBuffers(int fd, const double* row, const OptionDefaults& defaults) {
  if (row[kSent] > 0 || row[kSendBuffer] != defaults.row[kSendBuffer]) {
    SetBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, std::max(row[kSendBuffer], 2 * row[kSent]));
  }
  if (row[kReceiveQueue] > 0 || row[kReceiveBuffer] != defaults.row[kReceiveBuffer]) {
    SetBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, std::max(row[kReceiveBuffer], 2 * row[kReceiveQueue]));
  }
}

void RestoreBufferLock(int fd, const double* row) {
  if (!std::isnan(row[kBufferLock])) SetOption(fd, SOL_SOCKET, SO_BUF_LOCK, Unsigned(row[kBufferLock]));
}

}  // namespace tsunagi

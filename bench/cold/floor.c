/*
 * The least that saving and restoring connections costs: the same system calls as the addon's, in plain loops, without JavaScript and
 * without what a server needs besides (socket options, refusals, records).
 *
 *   floor loop <connections> <bytes>          prints one line of JSON: microseconds for each connection and phase
 *   floor peers <connections> <bytes> <path>  makes connections and sends the accepted ends to the unix socket <path>; keeps the others
 *                                             until its stdin ends
 *
 * <bytes> wait unread in each connection. The nftables table `inet tsunagi` must exist in this network namespace.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FDS_PER_MESSAGE 200

struct saved {
  struct sockaddr_in6 local, peer;
  struct tcp_info info;
  struct tcp_repair_window window;
  unsigned mss, timestamp, receive_sequence, send_sequence, memory[9];
  int receive_queue, send_queue;
  char *bytes;
};

static int count, waiting;
static int *servers, *clients;
static struct saved *saved;

static void check(int failed, const char *what) {
  if (!failed) return;
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int set(int fd, int option, unsigned value) { return setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value); }
static int get(int fd, int level, int option, void *value, socklen_t length) {
  return getsockopt(fd, level, option, value, &length);
}

/* IPv4 clients of an IPv6 listener, as most are of a Node server. */
static int connect_all(void) {
  int listener = socket(AF_INET6, SOCK_STREAM, 0), one = 1;
  struct sockaddr_in6 any = {.sin6_family = AF_INET6};
  socklen_t length = sizeof any;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  check(bind(listener, (void *)&any, sizeof any) || listen(listener, 4096), "listen");
  getsockname(listener, (void *)&any, &length);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = any.sin6_port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct linger reset = {1, 0};
  char *bytes = calloc(1, waiting + 1);
  for (int i = 0; i < count; i++) {
    clients[i] = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(clients[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    check(connect(clients[i], (void *)&to, sizeof to), "connect");
    check((servers[i] = accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0, "accept");
    if (waiting) check(send(clients[i], bytes, waiting, 0) != waiting, "send");
  }
  close(listener);
  return ntohs(any.sin6_port);
}

static void dump(int fd, struct saved *it) {
  socklen_t length = sizeof it->local;
  check(set(fd, TCP_REPAIR, 1), "TCP_REPAIR");
  getsockname(fd, (void *)&it->local, &length);
  length = sizeof it->peer;
  getpeername(fd, (void *)&it->peer, &length);
  get(fd, IPPROTO_TCP, TCP_INFO, &it->info, sizeof it->info);
  get(fd, IPPROTO_TCP, TCP_MAXSEG, &it->mss, sizeof it->mss);
  check(get(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &it->window, sizeof it->window), "TCP_REPAIR_WINDOW");
  get(fd, IPPROTO_TCP, TCP_TIMESTAMP, &it->timestamp, sizeof it->timestamp);
  get(fd, SOL_SOCKET, SO_MEMINFO, it->memory, sizeof it->memory);
  set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
  get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &it->receive_sequence, sizeof it->receive_sequence);
  ioctl(fd, SIOCINQ, &it->receive_queue);
  if (it->receive_queue) {
    it->bytes = malloc(it->receive_queue);
    check(recv(fd, it->bytes, it->receive_queue, MSG_PEEK) != it->receive_queue, "recv");
  }
  set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
  get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &it->send_sequence, sizeof it->send_sequence);
  ioctl(fd, SIOCOUTQ, &it->send_queue);
}

static int restore(const struct saved *it) {
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct tcp_repair_opt options[] = {
      {2, it->mss}, {3, it->info.tcpi_snd_wscale | (unsigned)it->info.tcpi_rcv_wscale << 16}, {4, 0}, {8, 0}};
  check(set(fd, TCP_REPAIR, 1), "TCP_REPAIR");
  if (it->receive_queue) {
    int bytes = it->receive_queue > (int)it->memory[1] / 2 ? it->receive_queue : (int)it->memory[1] / 2;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  }
  check(bind(fd, (void *)&it->local, sizeof it->local), "bind");
  set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
  set(fd, TCP_QUEUE_SEQ, it->send_sequence);
  set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
  set(fd, TCP_QUEUE_SEQ, it->receive_sequence - it->receive_queue);
  check(connect(fd, (void *)&it->peer, sizeof it->peer), "connect");
  check(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, sizeof options), "TCP_REPAIR_OPTIONS");
  set(fd, TCP_TIMESTAMP, it->timestamp + 2);
  for (int done = 0, sent; done < it->receive_queue; done += sent) {
    check((sent = send(fd, it->bytes + done, it->receive_queue - done, 0)) <= 0, "send");
  }
  check(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &it->window, sizeof it->window), "TCP_REPAIR_WINDOW");
  set(fd, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
  return fd;
}

/* One element of the set `ports`: a batch of three messages. */
static void change_port(int port, int add) {
  struct { struct nlmsghdr h; struct nfgenmsg g; } *message;
  struct nlattr *list, *element, *key;
  char buffer[512] = {0}, *at = buffer;
#define BEGIN(type, flags, family, resource) \
  (message = (void *)at, message->h.nlmsg_type = type, message->h.nlmsg_flags = NLM_F_REQUEST | (flags), \
   message->g.nfgen_family = family, message->g.res_id = htons(resource), at += sizeof *message)
#define END() (message->h.nlmsg_len = at - (char *)message)
#define PUT(type, data, length) \
  (((struct nlattr *)at)->nla_type = type, ((struct nlattr *)at)->nla_len = NLA_HDRLEN + (length), \
   memcpy(at + NLA_HDRLEN, data, length), at += NLA_HDRLEN + NLA_ALIGN(length))
#define OPEN(name, type) (name = (void *)at, name->nla_type = (type) | NLA_F_NESTED, at += NLA_HDRLEN)
#define CLOSE(name) (name->nla_len = at - (char *)name)
  unsigned short number = htons(port);
  unsigned long long timeout = htobe64(60000);
  BEGIN(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  END();
  BEGIN(NFNL_SUBSYS_NFTABLES << 8 | (add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM), NLM_F_ACK | (add ? NLM_F_CREATE : 0), 1, 0);
  PUT(NFTA_SET_ELEM_LIST_TABLE, "tsunagi", 8);
  PUT(NFTA_SET_ELEM_LIST_SET, "ports", 6);
  OPEN(list, NFTA_SET_ELEM_LIST_ELEMENTS);
  OPEN(element, NFTA_LIST_ELEM);
  OPEN(key, NFTA_SET_ELEM_KEY);
  PUT(NFTA_DATA_VALUE, &number, 2);
  CLOSE(key);
  if (add) PUT(NFTA_SET_ELEM_TIMEOUT, &timeout, 8);
  CLOSE(element);
  CLOSE(list);
  END();
  BEGIN(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  END();
  /* Kept open: closing it waits milliseconds for what was deleted. */
  static int fd = -1;
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  if (fd == -1) {
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    bind(fd, (void *)&address, sizeof address);
  }
  check(send(fd, buffer, at - buffer, 0) < 0 || recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) < 0, "nftables");
  check((errno = -((struct nlmsgerr *)NLMSG_DATA(buffer))->error) != 0, add ? "hold" : "release");
}

static void loop(void) {
  int port = connect_all();
  double times[7];
  times[0] = now();
  change_port(port, 1);
  times[1] = now();
  for (int i = 0; i < count; i++) dump(servers[i], &saved[i]);
  times[2] = now();
  for (int i = 0; i < count; i++) close(servers[i]);
  times[3] = now();
  for (int i = 0; i < count; i++) servers[i] = restore(&saved[i]);
  times[4] = now();
  change_port(port, 0);
  times[5] = now();
  int one = 1;
  for (int i = 0; i < count; i++) {
    set(servers[i], TCP_REPAIR, 0);
    setsockopt(servers[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  }
  times[6] = now();
  char byte;
  for (int i = 0; i < count; i++) {
    check(send(servers[i], "x", 1, 0) != 1 || recv(clients[i], &byte, 1, 0) != 1, "a restored connection");
  }
  printf("{\"hold\":%.2f,\"dump\":%.3f,\"close\":%.3f,\"restore\":%.3f,\"release\":%.2f,\"leave\":%.3f}\n", times[1] - times[0],
         (times[2] - times[1]) / count, (times[3] - times[2]) / count, (times[4] - times[3]) / count, times[5] - times[4],
         (times[6] - times[5]) / count);
}

static void send_fds(int channel, int *fds, int number) {
  union { struct cmsghdr align; char bytes[CMSG_SPACE(FDS_PER_MESSAGE * sizeof(int))]; } control = {0};
  struct iovec part = {"x", 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(number * sizeof(int))};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(number * sizeof(int));
  memcpy(CMSG_DATA(header), fds, number * sizeof(int));
  check(sendmsg(channel, &message, 0) != 1, "sendmsg");
}

static void peers(const char *path) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  char byte;
  strncpy(to.sun_path, path, sizeof to.sun_path - 1);
  int channel = socket(AF_UNIX, SOCK_STREAM, 0);
  check(connect(channel, (void *)&to, sizeof to), path);
  connect_all();
  for (int i = 0; i < count; i += FDS_PER_MESSAGE) {
    send_fds(channel, servers + i, count - i < FDS_PER_MESSAGE ? count - i : FDS_PER_MESSAGE);
  }
  for (int i = 0; i < count; i++) close(servers[i]);
  close(channel);
  while (read(0, &byte, 1) > 0) continue;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  count = atoi(argv[2]);
  waiting = atoi(argv[3]);
  servers = calloc(count, sizeof *servers);
  clients = calloc(count, sizeof *clients);
  saved = calloc(count, sizeof *saved);
  if (strcmp(argv[1], "peers") == 0 && argc > 4) peers(argv[4]);
  else loop();
  return 0;
}

/** Rooms that people of several servers share. A server says who its people are, and how they are told something. */
export function createRooms() {
  const servers = []
  const everybody = () => servers.flatMap((server) => [...server.people()])
  return {
    add: (server) => void servers.push(server),
    /** Nicknames of those in a room. */
    people: (room) => everybody().flatMap((session) => (session.room === room ? [session.nick] : [])),
    isTaken: (nick) => everybody().some((session) => session.nick.toLowerCase() === nick.toLowerCase()),
    /** `nick` says `text`; without `nick` it is about somebody. `except` is the session of whoever need not hear it. */
    tell(room, said, except) {
      for (const server of servers) server.tell(room, said, except)
    },
  }
}

/**
 * Rooms in socket.io, with a page: http://127.0.0.1:7017. It knows nothing of tsunagi: TSUNAGI_MOVE=all node --import tsunagi/register
 * examples/socketio/server.js, and the same again elsewhere: the page stays in its room. PORT and HOST say where it listens.
 */
import { createServer } from 'node:http'
import { Server } from 'socket.io'

const page = `<!doctype html><title>socket.io</title>
<form><input autofocus></form><pre></pre>
<script src="/socket.io/socket.io.js"></script>
<script>
  const socket = io({ auth: { user: prompt('Who are you?') } })
  const [input, lines] = document.querySelectorAll('input, pre')
  socket.onAny((...words) => lines.append(words.join(' '), '\\n'))
  socket.on('disconnect', () => lines.append('disconnected\\n'))
  socket.emit('join', 'lobby', (people) => lines.append(people + ' in the lobby\\n'))
  input.form.onsubmit = () => (socket.emit('say', 'lobby', input.value), (input.value = ''), false)
</script>`

const server = createServer((_request, response) => response.setHeader('content-type', 'text/html').end(page))
const io = new Server(server)

io.use((socket, next) => {
  socket.data.user = socket.handshake.auth.user
  next(socket.data.user ? undefined : new Error('who are you?'))
})

io.on('connection', (socket) => {
  const { user } = socket.data
  console.log(`${user} is here`)
  socket.emit('welcome', user)
  socket.broadcast.emit('joined', user)
  socket.on('join', (room, done) => {
    socket.join(room)
    done(io.sockets.adapter.rooms.get(room).size)
  })
  socket.on('say', (room, text) => io.to(room).emit('said', user, text))
  socket.on('disconnect', (reason) => console.log(`${user} left: ${reason}`))
})

server.listen(process.env.PORT ?? 7017, process.env.HOST ?? '127.0.0.1', () => console.log(`process ${process.pid} listens`))

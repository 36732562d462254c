// An Express app with ws and server-sent events. It has never heard of tsunagi.
const express = require('express')
const { createServer } = require('node:http')
const { WebSocketServer } = require('ws')

const app = express()
const streams = new Map()

app.get('/', (_request, response) => response.send(String(process.pid)))
app.get('/download', (_request, response) => response.send(Buffer.alloc(300_000, 'x')))
app.post('/upload', express.raw({ type: '*/*', limit: '5mb' }), ({ body }, response) => response.json({ length: body.length }))
app.get('/events', (request, response) => {
  const { user } = request.query
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  response.write(`event: welcome\ndata: ${user}\n\n`)
  streams.set(user, response)
  request.on('close', () => streams.delete(user))
})
app.post('/say', ({ query: { user, number } }, response) => {
  streams.get(user)?.write(`id: ${number}\ndata: ${number}\n\n`)
  response.send('ok')
})

const server = createServer(app)
const sockets = new WebSocketServer({ server, path: '/ws', perMessageDeflate: { threshold: 0 } })
sockets.on('connection', (socket) => {
  socket.send('welcome')
  socket.on('message', (message) => socket.send(String(message)))
})
server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log(JSON.stringify({ serving: true })))

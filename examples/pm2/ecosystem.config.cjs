// npx pm2 start examples/pm2/ecosystem.config.cjs, and after each change npx pm2 reload cluster: every WebSocket and keep-alive connection goes on.
const { join } = require('node:path')

module.exports = {
  apps: [
    {
      name: 'cluster',
      script: join(__dirname, 'server.js'),
      exec_mode: 'cluster',
      instances: 2,
      // A path: PM2 starts workers in the directory in which its daemon was started, from where a package's name may mean nothing.
      node_args: ['--require', require.resolve('tsunagi/register')],
      env: { PORT: process.env.PORT ?? 3000, TSUNAGI_MOVE: 'all' },
      // How long a broken version may be mended before PM2 stops the old workers (default 3 s), and how long what cannot move has to end (1.6 s).
      listen_timeout: 30_000,
      kill_timeout: 10_000,
    },
    {
      // npx pm2 restart fork: one process, which PM2 ends before it starts the next one. Meanwhile a keeper holds its connections, for TSUNAGI_HOLD seconds
      // at most; PM2 does not tell a process whether it will be started again, so clients of one that is stopped wait for that long as well.
      name: 'fork',
      script: join(__dirname, 'server.js'),
      exec_mode: 'fork',
      node_args: ['--require', require.resolve('tsunagi/register')],
      env: { PORT: process.env.FORK_PORT ?? 3001, TSUNAGI_MOVE: 'all', TSUNAGI_ON_EXIT: 'hold', TSUNAGI_HOLD: 5 },
    },
  ],
}

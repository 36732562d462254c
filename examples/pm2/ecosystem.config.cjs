// npx pm2 start examples/pm2/ecosystem.config.cjs, and after each change npx pm2 reload cluster: every WebSocket and keep-alive connection goes on. So it
// does after npx pm2 restart cluster, and if PM2 stops the old workers before a new version works: meanwhile a keeper holds the connections.
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
      env: { PORT: process.env.PORT ?? 3000, TSUNAGI_MOVE: 'all', TSUNAGI_ON_EXIT: 'hold' },
      // How long a broken version may be mended before PM2 stops the old workers (default 3 s), and how long what cannot move has to end (1.6 s).
      listen_timeout: 30_000,
      kill_timeout: 10_000,
    },
    {
      // npx pm2 restart fork: one process, which PM2 ends before it starts the next one. After npx pm2 stop fork the connections end in about 1.5 s.
      name: 'fork',
      script: join(__dirname, 'server.js'),
      exec_mode: 'fork',
      node_args: ['--require', require.resolve('tsunagi/register')],
      env: { PORT: process.env.FORK_PORT ?? 3001, TSUNAGI_MOVE: 'all', TSUNAGI_ON_EXIT: 'hold' },
    },
  ],
}

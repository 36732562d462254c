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
  ],
}

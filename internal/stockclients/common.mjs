// What the scripts of the clients share.
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

// @apollo/client expects it where browsers, and Node.js from 22 on, have it.
globalThis.WebSocket ??= WebSocket;

export const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');

// socket is the stock graphql-ws client, which others take as their transport. It comes back soon
// and often, so that a test need not wait for it.
export const socket = (url, token) => createClient({
  url,
  webSocketImpl: WebSocket,
  connectionParams: token ? { authorization: `Bearer ${token}` } : {},
  retryAttempts: 500,
  shouldRetry: () => true,
  retryWait: () => new Promise((done) => setTimeout(done, 200)),
});

export const untilInputCloses = () => {
  process.stdin.resume();
  process.stdin.on('close', () => process.exit(0));
};

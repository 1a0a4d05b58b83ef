// The server sends one page for every path; what it shows is decided in the browser.
export const ssr = false

// Takes pictures of whole pages. In: [{url or html, width, file}] on standard input.
import { inBrowser, open } from './browser.mjs'

await inBrowser(async (browser, shots) => {
  for (const shot of shots) {
    const page = await open(browser, shot)
    // A frame scrolls. A picture does not, so each frame gets the height of its content.
    for (const frame of page.frames().slice(1)) {
      const height = await frame.evaluate(() => document.body.scrollHeight)
      const element = await frame.frameElement()
      await element.evaluate((iframe, pixels) => {
        const { parentElement: card } = iframe
        card.style.height = `${card.offsetHeight - iframe.offsetHeight + pixels}px`
      }, height)
    }
    await page.screenshot({ path: shot.file, fullPage: true, optimizeForSpeed: false })
    await page.close()
  }
})

"""The shop's page inside the notebook: the real one in a frame where the browser can reach the gateway.

The gateway listens on the machine the kernel runs on. When the browser is on it too (JupyterLab's address is a
loopback one) the frame goes there, and links and sign-in work. Else, and in a saved notebook, it shows the page as
the kernel fetched it. The browser decides, for only it knows where it is. Browsers keep no cookies for a frame of
another site, so signing in takes a tab of its own.
"""

from __future__ import annotations

from html import escape
from itertools import count

_numbers = count(1)


def frame(url: str, fetched: str, height: int = 520, live: bool = True) -> str:
    """HTML of the frame: `fetched`, and if `live` with a reload button and `url` where the browser can go there."""
    name = f"shop-{next(_numbers)}"
    address = escape(url, quote=True)
    return f"""<div style="font-size:1.05em;margin:4px 0">
<button type="button" id="{name}-reload" style="font:inherit;padding:2px 12px">↻ reload</button>
<a href="{address}" target="_blank" rel="noopener">{address}</a> (in a tab of its own you can sign in)</div>
<iframe id="{name}" title="the shop" srcdoc="{escape(fetched, quote=True)}"
 style="width:100%;height:{height}px;border:1px solid #7f7f7f66;border-radius:8px;background:#fff"></iframe>
<script>(() => {{
  const frame = document.getElementById("{name}"), reload = document.getElementById("{name}-reload");
  const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  if (!here || !{str(live).lower()}) {{ reload.remove(); return; }}
  const go = () => {{ frame.removeAttribute("srcdoc"); frame.src = "{address}"; }};
  reload.onclick = go; go();
}})()</script>"""

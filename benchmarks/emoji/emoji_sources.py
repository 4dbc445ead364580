"""Where every emoji picture comes from: the package, its checksum, its artist and its licence.

`build_emoji.py` reads this table and nothing else about the sources. A style is one artist's drawings of many
emoji. To add one, add a line here, run the builder, and say in DATA_LICENSES who drew it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """One package: its name, the version, the SHA-256 of the file that is delivered, and who delivers it."""

    name: str
    version: str
    sha256: str
    registry: str = "npm"

    @property
    def file(self):
        """The file name that the registry's client writes."""
        if self.registry == "Debian":
            return f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def command(self):
        """The client's command that writes that file into the current folder."""
        if self.registry == "Debian":
            return ["apt-get", "download", f"{self.name}={self.version}"]
        return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]


@dataclass(frozen=True)
class Style:
    """One artist's drawings, and where in their package the pictures lie.

    kind    "png": a folder of PNG files named by code points
            "svg": an icons.json of SVG bodies under names, which icon_codes.json translates to code points
            "font": one outline font; the pictures are its glyphs in black
            "clipart": a folder of SVG files, which openclipart.json names
    where   that folder, that table of icon_codes.json ("names": icons named as emoji are), or that font file
    family  styles of one family descend from each other: where one is held out, none of the others is
            trained on, so that nothing of the held-out artist is seen
    unlike  styles of the family that come first: a picture that repeats one of theirs is left out
    role    "train"; "optional": trained on only where it is named; "exam": never trained on
    """

    package: Package
    name: str
    title: str
    kind: str
    where: str
    licence: str
    family: str
    unlike: tuple = ()
    role: str = "train"


NAMES = Package("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")
KEYWORDS = Package("emojilib", "4.0.3", "7f9a6b43cff31d18985b7d65d11faba5bd971cbcc60020cf6d09322fbaaaf303")
WORDS = Package("scowl", "2020.12.07-2", "de692546df9b169f2cbdf4d8d88111a374733a9c382b820a6f943914ca705718", "Debian")

STYLES = [
    Style(Package("emoji-datasource-twitter", "16.0.0",
                  "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"),
          "twemoji", "Twemoji", "png", "package/img/twitter/64/", "CC-BY-4.0", "twemoji"),
    Style(Package("emoji-datasource-twitter", "3.0.0",
                  "89e1cc7c7df14b2b7df275b2250ff622afe128dbf17aa0f3f75ab02120505248"),
          "twemoji-2016", "Twemoji 2, where it drew otherwise", "png",
          "package/img/twitter/64/", "CC-BY-4.0", "twemoji", ("twemoji",)),
    Style(Package("emoji-datasource-google", "16.0.0",
                  "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"),
          "noto", "Noto Emoji", "png", "package/img/google/64/", "Apache-2.0", "noto"),
    Style(Package("emoji-datasource-google", "4.1.0",
                  "5835b53de3671546e3b2a13854539cd1c30a78ae0d1948d505e0c8967b9cc372"),
          "noto-2017", "Noto Emoji of 2017 to 2018, where it drew otherwise", "png",
          "package/img/google/64/", "Apache-2.0", "noto", ("noto",)),
    Style(Package("emoji-datasource-google", "3.0.0",
                  "3247dd55dee7954d6d1d3d84b05759e49daf71cab5cccb4566940209679af66f"),
          "blob", "Noto Emoji before 2017 (blobs)", "png",
          "package/img/google/64/", "Apache-2.0", "noto", ("noto", "noto-2017")),
    Style(Package("@fontsource/noto-emoji", "5.3.2",
                  "1fe49bb2cf7c2d78f93c0a69b6a431dcfd0d585b7831eba87fae6888ccf8d373"),
          "noto-line", "Noto Emoji, the monochrome font", "font",
          "package/files/noto-emoji-emoji-400-normal.woff2", "OFL-1.1", "noto"),
    Style(Package("emojione", "2.2.7",
                  "5fe002738e6e276f49ac37783799d2feab99a6131fdedccfa56569d745449ae5"),
          "emojione", "EmojiOne 2", "png", "package/assets/png/", "CC-BY-4.0", "emojione"),
    Style(Package("emojione", "1.5.2",
                  "1eaa2d59c663b22270ca7016c58e0b1e19be2376189e783299be050f1d67f390"),
          "emojione-2014", "EmojiOne 1", "png", "package/assets/png/", "CC-BY-SA-4.0", "emojione"),
    Style(Package("@iconify-json/fxemoji", "1.2.2",
                  "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef"),
          "fxemoji", "FxEmojis (Firefox OS)", "svg", "fxemoji", "CC-BY-4.0", "fxemoji"),
    Style(Package("@iconify-json/streamline-emojis", "1.2.4",
                  "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc"),
          "streamline", "Streamline Emojis", "svg", "streamline", "CC-BY-4.0", "streamline"),
    Style(Package("@misskey-dev/emoji-assets", "17.0.3",
                  "cc91e07c03cda4402f03bf77c73fb3e6aacce1603d51dee935659349b54e7cdb"),
          "fluent", "Fluent 3D", "png", "package/built/fluent-emoji/", "MIT", "fluent", role="exam"),
    Style(Package("@iconify-json/emojione-monotone", "1.2.1",
                  "40b90004bafb406b59266155ef9b7e1dd67bf2947fc8db8d07388776f4d0d04e"),
          "emojione-mono", "EmojiOne 2, monotone", "svg", "names", "CC-BY-4.0", "emojione"),
    Style(Package("openclipart-svg", "1:0.18+dfsg-19",
                  "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5", "Debian"),
          "openclipart", "Openclipart, by hundreds of hands", "clipart", "./usr/share/openclipart/svg/",
          "public domain", "openclipart", role="optional"),
    Style(Package("@iconify-json/game-icons", "1.2.4",
                  "f5758efb34d91c4f50b941f355f16ee73938625e5996fabc25171288404460a4"),
          "game-icons", "Game-icons.net", "svg", "game-icons", "CC-BY-3.0", "game-icons", role="exam"),
]  # fmt: skip

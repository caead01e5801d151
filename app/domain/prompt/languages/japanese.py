"""Japanese. Text has no spaces, so the longest word wins.

A verb's negation stands behind it, and ends what it refuses ("not-before").
"""

# Endings of verbs, with what they add. "揺れ:る" stands for all forms of 揺れる.
_PLAIN = {
    "し": "",
    "する": "",
    "して": " and",
    "した": "",
    "しながら": " but",
    "しない": " not-before",
    "しないで": " not-before",
    "せず": " not-before",
    "せずに": " not-before",
    "しません": " not-before",
    "します": "",
    "している": "",
    "しています": "",
    "していない": " not-before",
    "させる": "",
    "させて": " and",
    "させない": " not-before",
    "させず": " not-before",
    "": "",
}
_ICHIDAN = {
    "る": "",
    "て": " and",
    "た": "",
    "ながら": " but",
    "ない": " not-before",
    "ないで": " not-before",
    "ず": " not-before",
    "ずに": " not-before",
    "ません": " not-before",
    "ます": "",
    "ている": "",
    "ています": "",
    "てる": "",
    "ていない": " not-before",
    "させる": "",
    "させて": " and",
    "させない": " not-before",
    "させず": " not-before",
    "": "",
}
# Verbs whose stem ends in a row of kana: i, a, te-form, dictionary form.
_ROWS = {
    "く": ("き", "か", "いて", "け"),
    "ぐ": ("ぎ", "が", "いで", "げ"),
    "す": ("し", "さ", "して", "せ"),
    "つ": ("ち", "た", "って", "て"),
    "ぶ": ("び", "ば", "んで", "べ"),
    "む": ("み", "ま", "んで", "め"),
    "う": ("い", "わ", "って", "え"),
    "ル": ("り", "ら", "って", "れ"),  # a verb such as 回る that is not ichidan
}


def _forms(word: str) -> dict[str, str]:
    """A word's forms, and what each adds to its entry. "動:く" -> 動く, 動いて, 動かない, ..."""
    stem, colon, ending = word.partition(":")
    if not colon:
        return {stem: ""}
    if ending == "る":
        return {stem + each: adds for each, adds in _ICHIDAN.items()}
    if ending == "する":
        return {stem + each: adds for each, adds in _PLAIN.items()}
    i, a, te, e = _ROWS[ending]
    last = "る" if ending == "ル" else ending
    past = te[:-1] + ("だ" if te.endswith("で") else "た")
    found = {
        **dict.fromkeys(
            (last, past, f"{i}ます", f"{te}いる", f"{te}います", f"{te}る", f"{e}"), ""
        ),
        **dict.fromkeys((te,), " and"),
        **dict.fromkeys((f"{i}ながら", f"{i}つつ"), " but"),
    }
    for negation in ("ない", "ないで", "ず", "ずに", "なく"):
        found[a + negation] = " not-before"
    found |= {f"{i}ません": " not-before", f"{te}いない": " not-before", i: ""}
    return {stem + each: adds for each, adds in found.items()}


_LISTS = {
    # How, and which way.
    "left": "左 左へ 左に 左方向 左側 左向き 右から左",
    "right": "右 右へ 右に 右方向 右側 右向き 左から右",
    "up": "上へ 上に 上方向 上向き 下から上",
    "down": "下へ 下に 下方向 下向き 上から下",
    "in": "イン",
    "out": "アウト",
    "forward": "前へ 前に 前方",
    "back": "後ろへ 後ろに 後方",
    "around": "周り 周囲 まわり ぐるり ぐるっと",
    "up-down": "上下 上下に",
    "clockwise": "時計回り 右回り 時計回りに",
    "anticlockwise": "反時計回り 左回り 反時計回りに",
    "camera": "カメラ 画面 視点 映像 画角 ドローン",
    "not-before": "なし 無し ない なしで しない せず 不要 禁止 しないで",
    "or": "または もしくは",
    "and": "そして",
    "but": "しかし ながら つつ 一方 同時に けど",
    "only-before": "だけ のみ だけが だけを のみが",
    "everything": "全体 全て すべて 全部",
    "gentle": "ゆっくり ゆっくりと 静かに 軽く 優しく やさしく 穏やかに そっと 緩やかに わずかに"
    " 少し かすかに ゆるやかに スロー ふわふわ ふわりと ゆらゆら スローモーション 弱く",
    "strong": "激しく 強く 素早く 速く 大きく 急に 勢いよく 早く ダイナミックに 急速に 力強く",
    # Camera.
    "zoom": "ズーム:する",
    "zoom in": "ズームイン:する ズームアップ:する 近づ:く 近づけ:る 寄:ル 接近:する 拡大:する"
    " ドリーイン:する 寄り",
    "zoom out": "ズームアウト:する 遠ざか:ル 引:く 離れ:る 縮小:する ドリーアウト:する 後退:する"
    " ズームバック:する",
    "track": "パン:する パンニング:する トラック:する スライド:する",
    "pan left": "左パン",
    "pan right": "右パン",
    "tilt": "ティルト:する チルト:する",
    "tilt up": "ティルトアップ:する チルトアップ:する パンアップ:する",
    "tilt down": "ティルトダウン:する チルトダウン:する パンダウン:する",
    "dolly": "ドリー:する",
    "orbit": "オービット:する 旋回:する 回り込:む 周回:する",
    "rotate": "回転:する 回転させ:る ローテーション:する",
    "roll": "ロール:する",
    "camera move": "カメラワーク カメラの動き",
    "move": "動:く 動か:す 移動:する 動き",
    "push": "前進:する 進:む",
    "rise": "上昇:する 上が:ル 昇:ル",
    "sink": "下降:する 下が:ル 降り:る",
    "handheld": "手持ちカメラ風 手持ち 手ブレ 手ぶれ 手持ちカメラ 手持ち風 ハンドヘルド",
    "shake": "震え:る ブレ:る ぶれ:る 振動:する",
    "still": "静止:する 固定:する 止ま:ル 静止画 停止:する 動きなし",
    "still camera": "固定カメラ カメラ固定 定点",
    "reveal": "現れるように",
    "parallax": "視差 パララックス",
    # Things that move.
    "sway": "揺れ:る 揺ら:す なび:く そよ:ぐ はため:く 揺らめ:く ゆらめ:く たなび:く ひらひら",
    "bob": "弾:む 跳ね:る ジャンプ:する 浮き沈み:する 上下運動 上下に揺れ:る 上下に動:く",
    "float": "浮か:ぶ 浮:く",
    "ripple": "流れ:る 波打:つ さざ波 波紋 きらめ:く さざめ:く",
    "wave": "波 波が 波立:つ 大波",
    "crash": "打ち寄せ:る 砕け:る しぶき 押し寄せ:る",
    "spin": "くるくる 回:ル スピン:する 自転:する 回転運動",
    "pulse": "脈打:つ 鼓動 呼吸:する 膨ら:む 脈動:する",
    "drift": "漂:う 流れてい:く ドリフト:する",
    "walk": "歩:く 走:ル",
    "fly": "飛:ぶ 泳:ぐ",
    "fall": "落ち:る 散:ル 舞い落ち:る 降:ル",
    "turn": "振り向:く 振り返:ル",
    "swirl": "渦巻:く 立ち上:ル 立ち昇:ル",
    "blow": "吹:く",
    # What moves.
    "wind": "風 風に 風が 風で そよ風 強風 微風",
    "water": "水 水面 湖 川 湖面 滝 池 小川 水が 噴水",
    "sea": "海 海面 海が 大海",
    "hair": "髪 髪の毛 ひげ 毛 たてがみ 前髪",
    "cloth": "服 ドレス スカート マント マフラー 布 リボン 着物 ワンピース",
    "flag": "旗 国旗 のぼり",
    "smoke": "煙 霧 湯気 蒸気 もや",
    "foliage": "葉 木の葉 木 木々 草 草原 植物 枝 草木 カーテン 葉っぱ 木が",
    "clouds": "雲 空 雲が",
    "fire": "火 炎 ろうそく 焚き火 ロウソク キャンドル",
    "snow": "雪 粉雪 雪が",
    "rain": "雨 雨が",
    "head": "顔 頭 目 瞳 首 視線",
    "limb": "手 腕 指 足 翼 尻尾 しっぽ 手を",
    "mouth": "口 唇",
    "person": "人 人物 女性 男性 少女 少年 彼女 彼 女の子 男の子 子供 子ども",
    "background": "背景 後ろの景色 後ろの 背後 奥の 遠くの",
    "subject": "被写体 前景 主題 手前",
    "thing": "風車 船 車 犬 猫 鳥 馬 花 花びら 風船 提灯 家 橋 ヘルメット 凧 太陽 月 ボート 他"
    " ほか その他 それ以外 光",
    # What no model makes.
    "blink": "まばたき:する 瞬き:する まばたきを:する ウインク:する ウィンク:する 瞬きを:する",
    "smile": "笑:う 微笑:む ほほえ:む 泣:く 笑顔 笑顔にな:ル 微笑",
    "talk": "話:す しゃべ:ル 喋:ル 歌:う",
    "nod": "うなず:く 頷:く 見:る 見つめ:る",
    "gesture": "手を振:ル 拍手:する 抱き合:う 手招き:する 振:ル しっぽを振:ル",
    "dance": "踊:ル ダンス:する",
    "flicker": "点滅:する ちらつ:く",
    "glow": "光:ル 輝:く キラキラ きらきら",
    "burn": "燃え:る",
    "burst": "爆発:する 壊れ:る",
    "change": "変身:する 変わ:ル 変化:する 咲:く 溶け:る",
    "appear": "現れ:る 消え:る",
    "open": "開:く 閉じ:る",
    "follow": "追いかけ:る 追従:する 追:う",
    "snowfall": "雪が降:ル 降雪",
    "rainfall": "雨が降:ル 降雨",
    "timelapse": "タイムラプス 早送り:する",
    "ambient": "生き生きと",
    # No meaning of their own, and words that contain another one.
    "function": "は が と を に へ で の も や から まで より です ます ある いる ください この"
    " その あの 中 中で 上 下 前 後ろ ように ような とても もっと まま する した して そこ これ"
    " それ 少しずつ ほど など よう と共に とともに",
    "": "風景 風格 和風 アニメ風 写真風 水着 水色 花火 人形 人間 火山 雪山 木造 空間 空港 日本"
    " 車窓 目的 上品 本 動画 動物 映画 自動車 海岸 海外 川沿い 水彩 洋風 台風",
}
JAPANESE = {
    form: entries + adds
    for entries, words in _LISTS.items()
    for word in words.split()
    for form, adds in _forms(word).items()
}

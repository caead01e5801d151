"""Chinese, in simplified characters; a prompt's traditional ones are taken for these.

Text has no spaces, so the longest word wins. Words that contain a shorter one and mean something
else are listed without an entry, as "style", which contains "wind".
"""

_LISTS = {
    # How, and which way.
    "left": "左 向左 往左 朝左 左边 左侧 左方 从右到左 从右向左",
    "right": "右 向右 往右 朝右 右边 右侧 右方 从左到右 从左向右",
    "up": "向上 往上 朝上 上方 从下到上 从下往上",
    "down": "向下 往下 朝下 下方 从上到下 从上往下",
    "forward": "向前 往前 朝前 前方",
    "back": "向后 往后 朝后",
    "around": "四周 一圈 周围",
    "up-down": "上下",
    "clockwise": "顺时针",
    "anticlockwise": "逆时针",
    "camera": "镜头 相机 摄像机 摄影机 画面 机位 视角 无人机",
    "not": "不 不要 别 没有 无 禁止 避免 不能 不会 请勿 勿 从不 不再 停止",
    "or": "或 或者 还是",
    "and": "和 并 并且 且 以及 与",
    "but": "但 但是 而 然后 同时 接着 而是 的同时",
    "only": "只 只有 仅 仅仅 只让 仅有 只是 单独",
    "nothing": "什么都不",
    "everything": "整体 全体 整个画面 一切 所有 全部",
    "gentle": "轻轻 轻轻地 缓慢 缓慢地 缓缓 缓缓地 慢慢 慢慢地 轻微 轻柔 柔和 微微 慢速 慢 稍微"
    " 轻缓 徐徐 舒缓 慢动作",
    "strong": "强烈 强烈地 快速 快速地 剧烈 剧烈地 猛烈 迅速 快 大幅 大幅度 猛 用力 急速 疯狂 激烈",
    # Camera.
    "zoom": "缩放 变焦",
    "zoom in": "推近 推进 推镜头 推镜 拉近 放大 靠近 前推 推轨 镜头前移 穿越 穿过 前移",
    "zoom out": "拉远 拉镜头 拉镜 缩小 后拉 拉开 远离 后退 拉出 后移",
    "pan": "平移 摇镜头 摇镜 移镜头 横移 横摇 扫过 横扫",
    "pan left": "左移 左摇",
    "pan right": "右移 右摇",
    "tilt up": "上移 上摇 仰拍 镜头上升 镜头升起",
    "tilt down": "下移 下摇 镜头下降",
    "tilt": "俯仰",
    "orbit": "环绕 环绕拍摄 围绕 绕 绕着 环拍",
    "rotate": "旋转 转动",
    "roll": "翻滚",
    "move": "移动 运动 动 动起来 运镜 移",
    "rise": "上升 升起",
    "sink": "下降",
    "handheld": "手持 手持镜头 手持拍摄 手持感",
    "shake": "抖动 摇晃 晃动 颤抖 震动",
    "still": "静止 不动 静止不动 固定 定格 保持不动 固定机位 静态",
    "reveal": "展现 揭示 展示 露出",
    "parallax": "视差",
    # Things that move.
    "sway": "摇摆 摇曳 飘动 飘扬 摆动 飘舞 飘拂 随风飘动 随风摇摆 随风摆动 随风飘扬 左右摇晃"
    " 左右摇摆 摇动 舞动 飘",
    "bob": "起伏 浮动 上下浮动 跳 跳动 跳跃 弹跳 上下起伏 上下跳动",
    "float": "漂浮 漂",
    "ripple": "荡漾 涟漪 波动 流动 波光粼粼 泛起涟漪 流淌 波纹 水波 流",
    "wave": "波浪 海浪 浪花 浪 波涛",
    "crash": "拍打 拍岸 冲击 飞溅 翻涌 汹涌",
    "spin": "自转 打转 转圈",
    "pulse": "呼吸 脉动 膨胀 搏动 心跳",
    "drift": "飘移 漂移 飘过 飘浮 移过",
    "walk": "走 走路 行走 奔跑 跑步 跑 走动 散步",
    "fly": "飞 飞翔 飞行 行驶 游泳 飞走 飞过",
    "fall": "落下 飘落 坠落 掉落 落",
    "turn": "转身 转过身",
    "swirl": "缭绕 袅袅 弥漫 升腾",
    # What moves.
    "wind": "风 微风 随风 大风 风中 清风 狂风 风吹",
    "water": "水 水面 湖水 湖面 河水 河流 湖 溪水 瀑布 水流 池塘 河",
    "sea": "海 大海 海水 海面 海洋",
    "hair": "头发 长发 发丝 发梢 胡子 毛发 秀发",
    "cloth": "裙子 衣服 裙摆 衣角 衣摆 围巾 披风 丝带 面纱 衣裙 斗篷",
    "flag": "旗 旗帜 旗子 国旗 红旗",
    "smoke": "烟 烟雾 雾 雾气 蒸汽 热气 炊烟 白雾",
    "foliage": "树叶 叶子 树 树木 草 小草 草地 植物 树枝 花草 芦苇 麦田 窗帘 柳树 竹林",
    "clouds": "云 云朵 白云 云彩 天空 云层",
    "fire": "火 火焰 烛光 蜡烛 篝火 火苗",
    "snow": "雪 雪花",
    "rain": "雨 雨滴",
    "head": "头 头部 脸 眼睛 脸部 目光 双眼",
    "limb": "手 手臂 手指 腿 翅膀 尾巴 双手",
    "mouth": "嘴 嘴唇 嘴巴",
    "person": "人 人物 女孩 男孩 女人 男人 她 他 孩子 女子 男子 少女 人们",
    "background": "背景 身后 后面 背后 远处 远方",
    "subject": "主体 前景 主角 主题 前面 近处",
    "thing": "风车 船 小船 汽车 车 狗 猫 鸟 马 花 花朵 气球 灯笼 房子 桥 头盔 风筝 太阳 月亮 小狗"
    " 小猫 其他 其余 灯光",
    # What no model makes.
    "blink": "眨眼 眨眼睛 眨了眨眼 眨了眨眼睛 眨",
    "smile": "微笑 笑 大笑 哭 哭泣 笑了 露出笑容 露出微笑 嘴角上扬",
    "talk": "说话 讲话 唱歌 交谈 张嘴",
    "nod": "点头 摇头 看向 抬头 低头 转头 回头 注视 看着镜头 回眸",
    "gesture": "挥手 招手 拥抱 鼓掌 亲吻 举手",
    "dance": "跳舞 起舞",
    "flicker": "闪烁 摇曳闪烁",
    "glow": "发光 闪光 闪耀",
    "burn": "燃烧",
    "burst": "爆炸 破碎 碎裂",
    "change": "变成 变化 变身 绽放 开花 盛开 融化",
    "appear": "出现 消失",
    "open": "打开 关闭",
    "follow": "跟随 跟拍 跟镜头",
    "refocus": "对焦 变换焦点",
    "snowfall": "下雪 飘雪 雪花飘落 飘着雪",
    "rainfall": "下雨",
    "timelapse": "延时 延时摄影 快进",
    "ambient": "画面动起来 图片动起来 照片动起来 让画面动起来 让图片动起来 让照片动起来 动起来吧"
    " 活起来",
    # No meaning of their own, and words that contain another one.
    "function": "的 地 得 了 着 在 里 中 上 下 把 将 让 使 被 向 往 朝 从 到 给 请 对 是 有 也 都"
    " 很 非常 一下 这 那 这个 一个 一只 一位 一片 保持 开始 进行 地方 其 它 他们 她们 正在 为 以"
    " 于 跟 一 些 一些 能 会 要 轻 方向 整个 吹 之",
    "": "风格 风景 风光 动物 动画 动漫 自动 水果 水晶 海报 海滩 海边 上海 花园 人像 火车 运动鞋"
    " 运动员 左手 右手 雪山 火山 云南 风衣 雨伞 不锈钢 无人 马路 手机 电影 电影感 头像 水墨 水彩"
    " 火锅 花瓶 山水 不同 不错 人工 流行 树林 汽水 雨林",
}
CHINESE = {word: entries for entries, words in _LISTS.items() for word in words.split()}
